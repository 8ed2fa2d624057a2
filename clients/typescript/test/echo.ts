// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

// A process that answers appends at once, and says its address on its first line.

import type { sendUnaryData } from "@grpc/grpc-js";
import { MemoryService } from "@recollect-ai/client/v1";

import { Peer } from "./peer.js";

const peer = await Peer.serve(MemoryService, {
  AppendMessages: (_call: unknown, answer: sendUnaryData<object>) => {
    answer(null, {});
  },
});
process.send?.(peer.address);
