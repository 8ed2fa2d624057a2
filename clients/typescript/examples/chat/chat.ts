// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

// A small chat in the terminal that remembers: a line in, a reply streamed out.

import { stdin, stdout } from "node:process";
import { createInterface } from "node:readline";

import { Recollect, user } from "@recollect-ai/client";

using client = Recollect.fromEnv({ userId: "ada" });
const { sessionId } = await client.memory.createSession({ title: "A chat" });

stdout.write("> ");
for await (const line of createInterface({ input: stdin })) {
  if (line !== "") {
    await say(line);
  }
  stdout.write("> ");
}
stdout.write("\n");

async function say(line: string): Promise<void> {
  for await (const { kind } of client.chat.stream({ sessionId, message: user(line) })) {
    if (kind.case === "delta" && kind.value.content.case === "text") {
      stdout.write(kind.value.content.value);
    }
    if (kind.case === "done" && kind.value.turn?.cache?.hit) {
      stdout.write(" (from the cache)");
    }
  }
  stdout.write("\n");
}
