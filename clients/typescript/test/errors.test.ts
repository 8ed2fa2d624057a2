// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { inspect } from "node:util";
import { test } from "node:test";

import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Metadata, status } from "@grpc/grpc-js";

import { fromGrpc, RecollectError } from "../src/errors.js";
import { ErrorInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../src/gen/google/rpc/status_pb.js";

/** What grpc-js throws. */
function thrown(code: number, packed?: Uint8Array): Error {
  const metadata = new Metadata();
  metadata.set("x-request-id", "call");
  if (packed) {
    metadata.set("grpc-status-details-bin", Buffer.from(packed));
  }
  return Object.assign(new Error(`${String(code)}: no`), { code, details: "no", metadata });
}

function packed(code: number, metadata: Record<string, string>): Uint8Array {
  const info = create(ErrorInfoSchema, { reason: "REVISION_MISMATCH", metadata });
  return toBinary(
    StatusSchema,
    create(StatusSchema, { code, details: [anyPack(ErrorInfoSchema, info)] }),
  );
}

test("an error says where the resource is now, if the server said a number", () => {
  const at = (revision: string) =>
    fromGrpc(thrown(status.ABORTED, packed(status.ABORTED, { current_revision: revision })));
  assert.equal(at("9007199254740993").currentRevision, 9007199254740993n);
  assert.equal(at("soon").currentRevision, undefined);
  assert.equal(fromGrpc(thrown(status.ABORTED)).currentRevision, undefined);
});

test("details that are not of the failure, or none at all, are left out", () => {
  for (const bytes of [packed(status.NOT_FOUND, {}), new Uint8Array([255, 255, 255])]) {
    const error = fromGrpc(thrown(status.ABORTED, bytes));
    assert.deepEqual([error.code, error.reason, error.message], ["ABORTED", undefined, "no"]);
  }
});

test("a status that the client does not know is kept as it is", () => {
  assert.equal(fromGrpc(thrown(99)).code, "99");
});

test("an error shows what there is to know of it", () => {
  const error = fromGrpc(thrown(status.ABORTED, packed(status.ABORTED, {})));
  assert(error instanceof RecollectError);
  assert.match(inspect(error), /RecollectError: no[^]*ABORTED[^]*REVISION_MISMATCH[^]*call/);
});
