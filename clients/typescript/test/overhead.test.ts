// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { assistant, Recollect, user } from "@recollect-ai/client";
import { AppendMessagesRequestSchema, AppendMessagesResponseSchema } from "@recollect-ai/client/v1";

const ROUNDS = 60;
const CALLS = 50;
const MOST = 1.1;

/** Microseconds of this process's CPU time for a round of calls, one after the other: what else the
 * machine does adds nothing, and the server is a process of its own. */
async function round(call: () => Promise<unknown>): Promise<number> {
  const began = process.cpuUsage();
  for (let n = 0; n < CALLS; n += 1) {
    await call();
  }
  const { user, system } = process.cpuUsage(began);
  return user + system;
}

/** The median ratio of rounds that take turns. */
async function ratio(
  byClient: () => Promise<unknown>,
  byStub: () => Promise<unknown>,
): Promise<number> {
  const ratios: number[] = [];
  for (let n = 0; n < ROUNDS; n += 1) {
    const first = await round(n % 2 === 0 ? byClient : byStub);
    const second = await round(n % 2 === 0 ? byStub : byClient);
    ratios.push(n % 2 === 0 ? first / second : second / first);
  }
  return ratios.sort((a, b) => a - b)[ROUNDS / 2] ?? Number.NaN;
}

test("the client takes hardly more CPU time than the stub given the same to send", async (context) => {
  const server = fork(fileURLToPath(new URL("echo.js", import.meta.url)));
  const [address] = (await once(server, "message")) as [string];
  using client = new Recollect({ address, userId: "ada" });
  const stub = new grpc.Client(address, grpc.credentials.createInsecure());
  const request = () => ({
    sessionId: "s",
    messages: [user("hello there"), assistant("hello to you")],
  });
  const byClient = () => client.memory.appendMessages(request());
  const byStub = () =>
    new Promise((resolve, reject) => {
      const filled = { ...request(), userId: "ada", requestId: randomUUID() };
      stub.makeUnaryRequest(
        "/recollect.v1.MemoryService/AppendMessages",
        (message) => Buffer.from(toBinary(AppendMessagesRequestSchema, message)),
        (bytes) => fromBinary(AppendMessagesResponseSchema, bytes),
        create(AppendMessagesRequestSchema, filled),
        new grpc.Metadata(),
        { deadline: Date.now() + 30_000 },
        (error, response) => {
          if (error) {
            reject(error);
          } else {
            resolve(response);
          }
        },
      );
    });
  try {
    await round(byClient);
    await round(byStub);
    const found = await ratio(byClient, byStub);
    context.diagnostic(`client/stub ${found.toFixed(3)}`);
    assert(found <= MOST, `the client takes ${found.toFixed(3)} of the stub's CPU time`);
  } finally {
    stub.close();
    server.kill();
  }
});
