// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

// Requests from plain values.

import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";

import { type ContentPart, type ContentPartSchema, Role } from "./gen/recollect/v1/common_pb.js";

/** A piece of a message, as a request has it. */
export type PartInput = MessageInitShape<typeof ContentPartSchema>;

/** More about a message of a request. */
export interface MessageDetails {
  authorName?: string;
  time?: Date;
  metadata?: Record<string, string>;
  externalId?: string;
}

/** A message as a request has it: of a session, of a prompt or of a chat. */
export interface MessageInput {
  role: Role;
  parts: PartInput[];
  authorName?: string;
  time?: Timestamp;
  metadata?: Record<string, string>;
  externalId?: string;
}

/** Returns the parts of a message or of an answer that is text alone. */
export function text(value: string): PartInput[] {
  return [{ kind: { case: "text", value } }];
}

/** Returns a message of the user. */
export function user(value: string, details?: MessageDetails): MessageInput {
  return message(Role.USER, text(value), details);
}

/** Returns a message of the model. */
export function assistant(value: string, details?: MessageDetails): MessageInput {
  return message(Role.ASSISTANT, text(value), details);
}

/** Returns instructions of the application. */
export function system(value: string, details?: MessageDetails): MessageInput {
  return message(Role.SYSTEM, text(value), details);
}

/** Returns a tool's answer to the call `callId`. */
export function toolResult(
  callId: string,
  value: string,
  details: MessageDetails & { isError?: boolean } = {},
): MessageInput {
  const { isError = false, ...more } = details;
  const result = { callId, text: value, isError };
  return message(Role.TOOL, [{ kind: { case: "toolResult", value: result } }], more);
}

/** Returns the text of parts, joined. */
export function textOf(parts: readonly ContentPart[]): string {
  return parts.map(({ kind }) => (kind.case === "text" ? kind.value : "")).join("");
}

function message(role: Role, parts: PartInput[], details: MessageDetails = {}): MessageInput {
  const { time, ...more } = details;
  return { role, parts, ...more, ...(time && { time: timestampFromDate(time) }) };
}
