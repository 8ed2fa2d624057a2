// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

// The TypeScript client's runner; tests/conformance/README.md has the protocol.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import {
  createRegistry,
  type DescMethod,
  fromJson,
  isMessage,
  type JsonValue,
  toJson,
} from "@bufbuild/protobuf";
import { Recollect, RecollectError, type CallOptions } from "@recollect-ai/client";
import {
  AdminService,
  CacheService,
  ChatService,
  file_recollect_v1_admin,
  file_recollect_v1_cache,
  file_recollect_v1_chat,
  file_recollect_v1_memory,
  MemoryService,
} from "@recollect-ai/client/v1";

interface Options {
  address: string;
  user_id?: string;
  api_key?: string;
  tls?: boolean;
  tls_roots?: string;
  timeout?: number;
}

type Step = { id: number } & (
  | { do: "open"; client: string; options: Options }
  | { do: "close"; client: string }
  | { do: "cancel"; call: number }
  | Call
);

interface Call {
  do: "call";
  client: string;
  method: string;
  request: JsonValue;
  timeout?: number;
  take?: number;
}

/** A method of the client, of which the runner knows no more than that. */
type Method = (...given: unknown[]) => AsyncIterable<unknown> | Promise<unknown>;

const PARTS = {
  MemoryService: ["memory", MemoryService],
  CacheService: ["cache", CacheService],
  ChatService: ["chat", ChatService],
  AdminService: ["admin", AdminService],
} as const;
/** The methods that have another name in the client than in the contract. */
const NAMES: Record<string, string> = { chat: "send", streamChat: "stream", resumeChat: "resume" };
const registry = createRegistry(
  file_recollect_v1_admin,
  file_recollect_v1_cache,
  file_recollect_v1_chat,
  file_recollect_v1_memory,
);
const clients = new Map<string, Recollect>();
const running = new Map<number, AbortController>();

async function main(): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    void execute(JSON.parse(line) as Step);
  }
  for (const client of clients.values()) {
    client.close();
  }
}

async function execute(step: Step): Promise<void> {
  try {
    switch (step.do) {
      case "open":
        clients.set(step.client, open(step.options));
        break;
      case "close":
        named(clients, step.client).close();
        clients.delete(step.client);
        break;
      case "cancel":
        named(running, step.call).abort();
        break;
      case "call":
        await call(step.id, step);
        return;
    }
    say(step.id, { value: null });
  } catch (error) {
    say(step.id, { error: plainError(error) });
  }
}

function open(options: Options): Recollect {
  const { address, user_id: userId, api_key: apiKey, tls, tls_roots: roots, timeout } = options;
  return new Recollect({
    address,
    userId,
    apiKey,
    tls: roots === undefined ? tls : { rootCertificates: readFileSync(roots) },
    timeoutMs: timeout === undefined ? undefined : timeout * 1000,
  });
}

async function call(id: number, step: Call): Promise<void> {
  const [service, rpc] = step.method.split("/") as [keyof typeof PARTS, string];
  const [part, description] = PARTS[service];
  const name = rpc.charAt(0).toLowerCase() + rpc.slice(1);
  const methods = named(clients, step.client)[part] as unknown as Record<string, Method>;
  const abort = new AbortController();
  running.set(id, abort);
  const options: CallOptions = {
    signal: abort.signal,
    timeoutMs: step.timeout === undefined ? undefined : step.timeout * 1000,
  };
  const given = requestOf((description.method as Record<string, DescMethod>)[name], step.request);
  const called = methods[NAMES[name] ?? name]?.(...given, options);
  if (called === undefined || !(Symbol.asyncIterator in called)) {
    const result = await called;
    say(id, { [isResponse(result) ? "result" : "value"]: plain(result) });
    return;
  }
  let seen = 0;
  for await (const item of called) {
    say(id, { item: plain(item) });
    seen += 1;
    if (seen === step.take) {
      break;
    }
  }
  say(id, { value: null });
}

/** The arguments of a method before its options: a request, or what an import takes. */
function requestOf(method: DescMethod | undefined, request: JsonValue): unknown[] {
  if (method === undefined) {
    throw new Error("the contract has no such method");
  }
  if (method.methodKind !== "client_streaming") {
    return [fromJson(method.input, request)];
  }
  const uploads = request as { user_id: string; record_json: string }[];
  return [uploads[0]?.user_id, uploads.map((upload) => upload.record_json)];
}

function isResponse(value: unknown): boolean {
  return isMessage(value) && value.$typeName.endsWith("Response");
}

function plain(value: unknown): unknown {
  if (isMessage(value)) {
    const schema = registry.getMessage(value.$typeName);
    return schema && toJson(schema, value, { registry, useProtoFieldName: true });
  }
  if (Array.isArray(value)) {
    return value.map(plain);
  }
  return typeof value === "bigint" ? value.toString() : (value ?? null);
}

function plainError(error: unknown): unknown {
  if (!(error instanceof RecollectError)) {
    return { code: "CLIENT", message: String(error) };
  }
  return {
    code: error.code,
    reason: error.reason ?? "",
    message: error.message,
    field_violations: error.fieldViolations,
    retry_after: (error.retryAfterMs ?? 0) / 1000,
    metadata: error.metadata,
    call_id: error.callId ?? "",
  };
}

function say(id: number, answer: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify({ id, ...answer })}\n`);
}

function named<Key, Value>(values: Map<Key, Value>, name: Key): Value {
  const found = values.get(name);
  if (found === undefined) {
    throw new Error(`there is no ${String(name)}`);
  }
  return found;
}

await main();
