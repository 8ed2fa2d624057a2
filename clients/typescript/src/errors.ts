// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import { Metadata, status as statuses } from "@grpc/grpc-js";

import {
  BadRequestSchema,
  ErrorInfoSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "./gen/google/rpc/status_pb.js";
import type { ErrorReason } from "./gen/recollect/v1/common_pb.js";

/** A text of which some are known. */
type Open<Known extends string> = Known | (string & Record<never, never>);

/** The name of a gRPC status, as in `NOT_FOUND`. */
export type Code = Open<Exclude<keyof typeof statuses, "OK">>;

/** Why a call failed: the name of an `ErrorReason` of the contract. A newer server may give others. */
export type Reason = Open<Exclude<keyof typeof ErrorReason, "UNSPECIFIED">>;

/** A bad field of a request. */
export interface FieldViolation {
  /** Its path with the contract's names, as in `messages[0].role`. */
  readonly field: string;
  /** What would be right. */
  readonly description: string;
}

interface Details {
  reason?: Reason | undefined;
  fieldViolations?: FieldViolation[];
  retryAfterMs?: number | undefined;
  metadata?: Record<string, string>;
  callId?: string | undefined;
  cause?: unknown;
}

/** What every failed call throws. */
export class RecollectError extends Error {
  override readonly name = "RecollectError";
  /** The gRPC status. */
  readonly code: Code;
  /** Why; undefined if the error did not come from the server itself. */
  readonly reason: Reason | undefined;
  /** The bad fields. */
  readonly fieldViolations: readonly FieldViolation[];
  /** Milliseconds after which to try again, if the server said so. */
  readonly retryAfterMs: number | undefined;
  /** More about the reason. */
  readonly metadata: Readonly<Record<string, string>>;
  /** What to look for in the server's log; not the request id. */
  readonly callId: string | undefined;

  /** @internal */
  constructor(code: Code, message: string, details: Details = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.reason = details.reason;
    this.fieldViolations = details.fieldViolations ?? [];
    this.retryAfterMs = details.retryAfterMs;
    this.metadata = details.metadata ?? {};
    this.callId = details.callId;
  }

  /** The session's revision or the fact's version now, of an error with `REVISION_MISMATCH`. */
  get currentRevision(): bigint | undefined {
    const revision = this.metadata["current_revision"];
    return revision === undefined || !/^\d+$/.test(revision) ? undefined : BigInt(revision);
  }
}

/** What gRPC says of a failed call. */
interface Failure {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

/** Turns what gRPC throws into an error of this client. */
export function fromGrpc(thrown: unknown): RecollectError {
  if (thrown instanceof RecollectError) {
    return thrown;
  }
  if (!isFailure(thrown)) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new RecollectError("INTERNAL", message, { cause: thrown });
  }
  const { details } = rich(thrown);
  const info = find(details, ErrorInfoSchema);
  const delay = find(details, RetryInfoSchema)?.retryDelay;
  return new RecollectError(statuses[thrown.code] ?? String(thrown.code), thrown.details, {
    reason: info?.reason,
    fieldViolations: (find(details, BadRequestSchema)?.fieldViolations ?? []).map(
      ({ field, description }) => ({ field, description }),
    ),
    retryAfterMs: delay && durationMs(delay),
    metadata: { ...info?.metadata },
    callId: find(details, RequestInfoSchema)?.requestId ?? text(thrown.metadata, "x-request-id"),
  });
}

function isFailure(thrown: unknown): thrown is Failure {
  return thrown instanceof Error && "code" in thrown && "details" in thrown && "metadata" in thrown;
}

/** The details that the server sent; none if they are not of this failure. */
function rich({ code, metadata }: Failure): Pick<Status, "details"> {
  const [packed] = metadata.get("grpc-status-details-bin");
  if (!(packed instanceof Uint8Array)) {
    return { details: [] };
  }
  try {
    const status = fromBinary(StatusSchema, packed);
    return status.code === code ? status : { details: [] };
  } catch {
    return { details: [] }; // Not a status: what a proxy put there says nothing of the call.
  }
}

function find<Schema extends DescMessage>(
  details: Status["details"],
  schema: Schema,
): MessageShape<Schema> | undefined {
  for (const detail of details) {
    const found = anyUnpack(detail, schema);
    if (found) {
      return found;
    }
  }
  return undefined;
}

function text(metadata: Metadata, key: string): string | undefined {
  const [value] = metadata.get(key);
  return typeof value === "string" ? value : undefined;
}
