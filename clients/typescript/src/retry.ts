// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import type { ClientOptions } from "@grpc/grpc-js";

import type { Bounds } from "./bounds.js";
import { RecollectError } from "./errors.js";

/** How often a call is tried, and a stream that brings nothing. */
export const MAX_TRIES = 5;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;
const LONGEST_RECONNECT_MS = 1_000;

/**
 * The calls that gRPC does not repeat. Every other one may be: a write either carries a request id or
 * comes to the same when repeated. But the records of an import are a stream, and Watch repeats itself:
 * it knows where to go on.
 */
export const ONCE = [
  { service: "recollect.v1.MemoryService", method: "Watch" },
  { service: "recollect.v1.AdminService", method: "ImportUser" },
];

const SERVICE_CONFIG = {
  methodConfig: [
    {
      name: [{}],
      retryPolicy: {
        maxAttempts: MAX_TRIES,
        initialBackoff: "0.1s",
        maxBackoff: "2s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
    { name: ONCE },
  ],
};

/** How gRPC connects, and repeats calls. */
export const CHANNEL_OPTIONS: ClientOptions = {
  "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
  "grpc.service_config_disable_resolution": 1,
  "grpc.enable_retries": 1,
  // What gRPC keeps of a request to repeat it, and of all that are under way; its own 1 MiB and 16 MiB
  // would leave out large appends.
  "grpc.per_rpc_retry_buffer_size": 8 << 20,
  "grpc.retry_buffer_size": 256 << 20,
  "grpc.max_receive_message_length": -1,
  // gRPC's own, 1 s growing to 2 min, leaves a server that is back unused for long. The longest is less
  // than the pauses of a call's repeats together, so that they do not all fall into it.
  "grpc.initial_reconnect_backoff_ms": FIRST_PAUSE_MS,
  "grpc.max_reconnect_backoff_ms": LONGEST_RECONNECT_MS,
  "grpc.keepalive_time_ms": 60_000,
  "grpc.keepalive_timeout_ms": 20_000,
};

/** Counts the tries to go on with a stream that broke, and waits before each. */
export class Pauses {
  tries = 0;
  #next = 0;

  /** Says that something came: the next pause is the first again. */
  reset(): void {
    this.tries = 0;
    this.#next = 0;
  }

  /** Waits, or throws if the call ends first. */
  async wait(bounds: Bounds): Promise<void> {
    this.tries += 1;
    this.#next = Math.min(Math.max(2 * this.#next, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
    // Many clients of one server must not come back at the same moment.
    await bounds.pause(this.#next * (0.5 + Math.random() / 2));
  }
}

/** Whether the connection broke, or the server is going away: not that a part of it is down. */
export function isLost(error: unknown): boolean {
  return (
    error instanceof RecollectError &&
    error.code === "UNAVAILABLE" &&
    (error.reason === undefined || error.reason === "SHUTTING_DOWN")
  );
}
