// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import type { Bounds } from "./bounds.js";
import type { Calls } from "./calls.js";
import {
  MemoryService,
  type WatchRequest,
  type WatchResponse,
} from "./gen/recollect/v1/memory_pb.js";
import { Pauses } from "./retry.js";

/** Yields changes from the request's token on, whose place the last token seen takes. */
export async function* watch(
  calls: Calls,
  request: WatchRequest,
  bounds: Bounds,
): AsyncGenerator<WatchResponse, void, undefined> {
  const pauses = new Pauses();
  for (;;) {
    try {
      const responses = calls.stream(MemoryService.method.watch, request, bounds, true);
      for await (const response of responses) {
        request.resumeToken = response.resumeToken;
        pauses.reset();
        yield response;
      }
      return;
    } catch (error) {
      const givenUp = pauses.areUsedUp && request.resumeToken === "";
      if (givenUp || !calls.isUnavailable(error, bounds)) {
        throw error;
      }
    }
    await pauses.wait(bounds);
  }
}
