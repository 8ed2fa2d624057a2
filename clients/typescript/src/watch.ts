// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import type { Bounds } from "./bounds.js";
import type { Calls } from "./calls.js";
import { RecollectError } from "./errors.js";
import {
  MemoryService,
  type WatchRequest,
  type WatchResponse,
} from "./gen/recollect/v1/memory_pb.js";
import { MAX_TRIES, Pauses } from "./retry.js";

/** Yields changes from the request's token on, whose place the last token seen takes. */
export async function* watch(
  calls: Calls,
  request: WatchRequest,
  bounds: Bounds,
): AsyncGenerator<WatchResponse, void, undefined> {
  const pauses = new Pauses();
  for (;;) {
    try {
      for await (const response of calls.stream(MemoryService.method.watch, request, bounds)) {
        request.resumeToken = response.resumeToken;
        pauses.reset();
        yield response;
      }
      return;
    } catch (error) {
      const unavailable = error instanceof RecollectError && error.code === "UNAVAILABLE";
      const givenUp = pauses.tries + 1 >= MAX_TRIES && request.resumeToken === "";
      if (!unavailable || givenUp) {
        throw error;
      }
    }
    await pauses.wait(bounds);
  }
}
