// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

/**
 * The client of the Recollect memory server.
 *
 * A {@link Recollect} has a part for each service: `memory`, `cache`, `chat` and `admin`, each with a
 * method for every RPC. Requests are plain objects, results the messages of
 * `@recollect-ai/client/v1`. Lists and streams are async iterables; leaving one early ends the call.
 *
 * @packageDocumentation
 */

export {
  durationFromMs,
  durationMs,
  timestampDate,
  timestampFromDate,
} from "@bufbuild/protobuf/wkt";
export { Admin } from "./admin.js";
export type { CallOptions } from "./bounds.js";
export { Cache } from "./cache.js";
export { Chat } from "./chat.js";
export { Recollect } from "./client.js";
export { RecollectError, type Code, type FieldViolation, type Reason } from "./errors.js";
export { Memory } from "./memory.js";
export {
  assistant,
  system,
  text,
  textOf,
  toolResult,
  user,
  type MessageDetails,
  type MessageInput,
  type PartInput,
} from "./messages.js";
export type { RecollectOptions, TlsOptions, TokenSource } from "./settings.js";
