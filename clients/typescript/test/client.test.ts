// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { clone, create, type DescService, equals } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { Recollect, RecollectError, user } from "@recollect-ai/client";
import {
  AdminService,
  type AppendMessagesRequest,
  AppendMessagesRequestSchema,
  BatchLookupRequestSchema,
  type BatchLookupRequest,
  CacheService,
  ChatService,
  type ImportUserRequest,
  LookupRequestSchema,
  MemoryService,
} from "@recollect-ai/client/v1";

import { ended, type Handlers, Peer } from "./peer.js";

type Unary<Request> = grpc.ServerUnaryCall<Request, object>;
type Answer = grpc.sendUnaryData<object>;

const APPEND = { sessionId: "s", messages: [user("x")] };

/** Handlers that answer each append with the next status, and keep what was sent. */
function appends(...codes: grpc.status[]) {
  const requests: AppendMessagesRequest[] = [];
  const credentials: grpc.MetadataValue[][] = [];
  const handlers: Handlers = {
    AppendMessages: ({ request, metadata }: Unary<AppendMessagesRequest>, answer: Answer) => {
      requests.push(request);
      credentials.push(metadata.get("authorization"));
      const code = codes.shift() ?? grpc.status.OK;
      answer(code === grpc.status.OK ? null : { code, details: "not now" }, { userRevision: 7n });
    },
  };
  return { requests, credentials, handlers };
}

/** Handlers of a call that is never answered, and a promise that it has come. */
function silent() {
  let come: () => void;
  const begun = new Promise<void>((resolve) => (come = resolve));
  const handlers: Handlers = {
    AppendMessages: () => {
      come();
    },
  };
  return { begun, handlers };
}

async function failure(call: Promise<unknown>): Promise<RecollectError> {
  const error: unknown = await call.then(
    () => assert.fail("no error"),
    (thrown: unknown) => thrown,
  );
  assert(error instanceof RecollectError, String(error));
  return error;
}

test("a request is not changed, and each call has a request id that repeats keep", async () => {
  const { UNAVAILABLE } = grpc.status;
  const { requests, handlers } = appends(UNAVAILABLE, UNAVAILABLE);
  using peer = await Peer.serve(MemoryService, handlers);
  using client = new Recollect({ address: peer.address, userId: "ada" });
  const request = create(AppendMessagesRequestSchema, APPEND);
  const before = clone(AppendMessagesRequestSchema, request);
  for (let times = 0; times < 2; times += 1) {
    assert.equal((await client.memory.appendMessages(request)).userRevision, 7n);
  }
  assert(equals(AppendMessagesRequestSchema, request, before));
  assert.deepEqual(
    requests.map(({ userId }) => userId),
    ["ada", "ada", "ada", "ada"],
  );
  const [first, second, third, fourth] = requests.map(({ requestId }) => requestId);
  assert.match(first ?? "", /^[0-9a-f-]{36}$/);
  assert.deepEqual([second, third], [first, first]);
  assert.notEqual(fourth, first);
});

test("a batch's lookups are for its user, and are not changed", async () => {
  let sent: BatchLookupRequest | undefined;
  using peer = await Peer.serve(CacheService, {
    BatchLookup: ({ request }: Unary<BatchLookupRequest>, answer: Answer) => {
      sent = request;
      answer(null, {});
    },
  });
  using client = new Recollect({ address: peer.address, userId: "ada" });
  const lookup = create(LookupRequestSchema, { anyModel: true });
  const request = create(BatchLookupRequestSchema, { lookups: [lookup, { userId: "bob" }] });
  assert.deepEqual(await client.cache.batchLookup(request), []);
  assert.deepEqual(
    sent?.lookups.map(({ userId }) => userId),
    ["ada", "bob"],
  );
  assert.equal(lookup.userId, "");
});

test("the token source is asked for each call", async () => {
  const { credentials, handlers } = appends();
  using peer = await Peer.serve(MemoryService, handlers);
  let token = "";
  using client = new Recollect({ address: peer.address, token: () => (token += "t") });
  await client.memory.appendMessages(APPEND);
  await client.memory.appendMessages(APPEND);
  assert.deepEqual(credentials, [["Bearer t"], ["Bearer tt"]]);
});

test("a token source that fails fails the call, and one that hangs ends at its deadline", async () => {
  const { requests, handlers } = appends();
  using peer = await Peer.serve(MemoryService, handlers);
  const cause = new Error("no token today");
  using failing = new Recollect({ address: peer.address, token: () => Promise.reject(cause) });
  const failed = await failure(failing.memory.appendMessages(APPEND));
  assert.equal(failed.code, "UNAUTHENTICATED");
  assert.equal(failed.cause, cause);
  using garbled = new Recollect({ address: peer.address, token: () => "two\nlines" });
  assert.equal((await failure(garbled.memory.appendMessages(APPEND))).code, "UNAUTHENTICATED");
  using empty = new Recollect({ address: peer.address, token: () => "" });
  assert.equal((await failure(empty.memory.appendMessages(APPEND))).code, "UNAUTHENTICATED");
  const never = new Promise<string>(() => undefined);
  using hanging = new Recollect({ address: peer.address, token: () => never, timeoutMs: 50 });
  assert.equal((await failure(hanging.memory.appendMessages(APPEND))).code, "DEADLINE_EXCEEDED");
  assert.deepEqual(requests, []);
});

test("leaving a stream ends it on the server", async () => {
  let over: Promise<void> | undefined;
  using peer = await Peer.serve(ChatService, {
    StreamChat: (call: grpc.ServerWritableStream<unknown, object>) => {
      over = ended(call);
      for (let sequence = 1n; sequence < 100n; sequence += 1n) {
        call.write({ event: { sequence } });
      }
    },
  });
  using client = new Recollect({ address: peer.address });
  for await (const event of client.chat.stream({})) {
    if (event.sequence === 3n) {
      break;
    }
  }
  await over;
});

test("a signal ends a call, and says why", async () => {
  const { begun, handlers } = silent();
  using peer = await Peer.serve(MemoryService, handlers);
  using client = new Recollect({ address: peer.address });
  const abort = new AbortController();
  const call = failure(client.memory.appendMessages(APPEND, { signal: abort.signal }));
  await begun;
  abort.abort(new Error("never mind"));
  assert.equal((await call).code, "CANCELLED");
  assert.equal((await call).cause, abort.signal.reason);
  const before = await failure(client.memory.appendMessages(APPEND, { signal: abort.signal }));
  assert.equal(before.code, "CANCELLED");
  const late = await failure(
    client.memory.appendMessages(APPEND, { signal: AbortSignal.timeout(20) }),
  );
  assert.equal(late.code, "DEADLINE_EXCEEDED");
});

test("one signal may be of many calls", async (context) => {
  const { handlers } = appends();
  using peer = await Peer.serve(MemoryService, handlers);
  using client = new Recollect({ address: peer.address });
  const warned = context.mock.fn();
  process.on("warning", warned);
  const { signal } = new AbortController();
  const calls = Array.from({ length: 20 }, () => client.memory.appendMessages(APPEND, { signal }));
  assert.equal((await Promise.all(calls)).length, 20);
  await sleep(0);
  process.off("warning", warned);
  assert.equal(warned.mock.callCount(), 0);
});

test("closing a client ends its calls, and it makes no more", async () => {
  const { begun, handlers } = silent();
  using peer = await Peer.serve(MemoryService, handlers);
  const client = new Recollect({ address: peer.address });
  const call = failure(client.memory.appendMessages(APPEND));
  await begun;
  client.close();
  client.close();
  assert.equal((await call).code, "CANCELLED");
  assert.equal((await failure(client.memory.appendMessages(APPEND))).code, "CANCELLED");
});

test("what does not fit its field is refused before it is sent", async () => {
  let sent = 0;
  using peer = await Peer.serve(MemoryService, {
    Recall: (_call: unknown, answer: Answer) => {
      sent += 1;
      answer(null, {});
    },
  });
  using client = new Recollect({ address: peer.address });
  await assert.rejects(client.memory.recall({ query: "q", topK: 1.5 }), /top_k.*1\.5/);
  assert.equal(sent, 0);
});

test("an import sends what is iterated, and what the iteration throws ends it", async () => {
  const received: string[] = [];
  let over: Promise<void> | undefined;
  using peer = await Peer.serve(AdminService, {
    ImportUser: (call: grpc.ServerReadableStream<ImportUserRequest, object>, answer: Answer) => {
      over = new Promise((resolve) => call.once("cancelled", resolve));
      call.on("data", (request: ImportUserRequest) => received.push(request.recordJson));
      call.on("end", () => {
        answer(null, { records: BigInt(received.length) });
      });
    },
  });
  using client = new Recollect({ address: peer.address });
  const records = Array.from({ length: 500 }, (_, n) =>
    JSON.stringify({ n, more: "x".repeat(999) }),
  );
  assert.equal(await client.admin.importUser("ada", records), 500n);
  assert.deepEqual(received, records);
  const broken = function* () {
    yield "{}";
    throw new RangeError("the file is cut off");
  };
  await assert.rejects(client.admin.importUser("ada", broken()), RangeError);
  await over;
});

test("an import that the server ends says why", async () => {
  using peer = await Peer.serve(AdminService, {
    ImportUser: (_call: unknown, answer: Answer) => {
      answer({ code: grpc.status.ALREADY_EXISTS, details: "the user exists" });
    },
  });
  using client = new Recollect({ address: peer.address });
  const endless = async function* () {
    for (;;) {
      yield "x".repeat(10_000);
      await sleep(0);
    }
  };
  const failed = await failure(client.admin.importUser("ada", endless()));
  assert.equal(failed.code, "ALREADY_EXISTS");
});

test("an error shows where the call was made", async () => {
  using peer = await Peer.serve(MemoryService, {});
  using client = new Recollect({ address: peer.address });
  const caller = async () => await client.memory.getSession({ sessionId: "s" });
  const failed = await failure(caller());
  assert.equal(failed.code, "UNIMPLEMENTED");
  assert.match(failed.stack ?? "", /at async caller/);
});

test("there is a method for every RPC", () => {
  using client = new Recollect();
  const renamed: Record<string, string> = {
    chat: "send",
    streamChat: "stream",
    resumeChat: "resume",
  };
  const parts: [object, DescService][] = [
    [client.memory, MemoryService],
    [client.cache, CacheService],
    [client.chat, ChatService],
    [client.admin, AdminService],
  ];
  for (const [part, service] of parts) {
    const names = Object.getOwnPropertyNames(Object.getPrototypeOf(part));
    assert.deepEqual(
      names.filter((name) => name !== "constructor").sort(),
      service.methods.map(({ localName }) => renamed[localName] ?? localName).sort(),
    );
  }
});
