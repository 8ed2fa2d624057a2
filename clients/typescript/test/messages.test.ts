// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import {
  assistant,
  system,
  textOf,
  timestampDate,
  toolResult,
  user,
  type MessageInput,
} from "@recollect-ai/client";
import { NewMessageSchema, PromptMessageSchema, Role } from "@recollect-ai/client/v1";

test("messages have their roles and what is said of them", () => {
  const time = new Date("2026-05-03T10:00:00Z");
  const made = create(
    NewMessageSchema,
    user("hello", { authorName: "Ada", time, externalId: "1" }),
  );
  assert.equal(made.role, Role.USER);
  assert.equal(textOf(made.parts), "hello");
  assert.equal(made.authorName, "Ada");
  assert.equal(made.externalId, "1");
  assert.deepEqual(made.time && timestampDate(made.time), time);
  assert.equal(assistant("x").role, Role.ASSISTANT);
  assert.equal(system("x").role, Role.SYSTEM);
});

test("messages are those of prompts too", () => {
  const message: MessageInput = user("hello");
  assert.equal(textOf(create(PromptMessageSchema, message).parts), "hello");
});

test("a tool's result names its call, and text is only what was said", () => {
  const made = create(NewMessageSchema, toolResult("c", "no such city", { isError: true }));
  const [part] = made.parts;
  assert(part?.kind.case === "toolResult");
  assert.deepEqual(
    [made.role, part.kind.value.callId, part.kind.value.text, part.kind.value.isError],
    [Role.TOOL, "c", "no such city", true],
  );
  assert.equal(textOf(made.parts), "");
});
