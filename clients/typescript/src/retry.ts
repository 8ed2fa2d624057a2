// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import type { ClientOptions } from "@grpc/grpc-js";

import type { Bounds } from "./bounds.js";
import { RecollectError } from "./errors.js";

/** How often a call is tried, and a stream that brings nothing. */
const MAX_TRIES = 5;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1_000;
/** How long a chat stream without a deadline, once broken, is resumed without an event. */
const RESUME_MS = 60_000;

/** How gRPC connects. */
export const CHANNEL_OPTIONS: ClientOptions = {
  "grpc.service_config_disable_resolution": 1,
  // Its own repeats cannot tell a call that was cancelled for a reason from one that a server did not
  // begin; `Transport` has ours.
  "grpc.enable_retries": 0,
  "grpc.max_receive_message_length": -1,
  // gRPC's own, 1 s growing to 2 min, leaves a server that is back unused for long. The longest is less
  // than the pauses of a call's repeats together, so that they do not all fall into it.
  "grpc.initial_reconnect_backoff_ms": FIRST_PAUSE_MS,
  "grpc.max_reconnect_backoff_ms": LONGEST_PAUSE_MS,
  "grpc.keepalive_time_ms": 60_000,
  "grpc.keepalive_timeout_ms": 20_000,
};

/** Counts the tries of a call, or to go on with a stream that broke, and waits before each. */
export class Pauses {
  #tries = 0;
  #next = 0;
  #broke: number | undefined;

  /** Whether one more try would be one too many, if none brings anything. */
  get areUsedUp(): boolean {
    return this.#tries + 1 >= MAX_TRIES;
  }

  /** Says that something came: the next pause is the first again. */
  reset(): void {
    this.#tries = 0;
    this.#next = 0;
    this.#broke = undefined;
  }

  /**
   * Whether a stream that broke is tried again: as long as its deadline lets it, which `wait` heeds.
   * Such tries do not count.
   */
  goesOn(bounds: Bounds): boolean {
    this.#broke ??= performance.now();
    this.#tries = 0;
    return bounds.deadline !== Infinity || performance.now() - this.#broke < RESUME_MS;
  }

  /** Waits, or throws if the call ends first. */
  async wait(bounds: Bounds): Promise<void> {
    this.#tries += 1;
    this.#next = Math.min(Math.max(2 * this.#next, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
    // Many clients of one server must not come back at the same moment.
    await bounds.pause(this.#next * (0.5 + Math.random() / 2));
  }
}

/**
 * Whether another server, or the same later, may do what this one did not. A server that shuts down
 * cancels the calls that it has not begun, and gives no reason.
 */
export function isUnavailable(error: unknown): error is RecollectError {
  return (
    error instanceof RecollectError &&
    (error.code === "UNAVAILABLE" || (error.code === "CANCELLED" && error.reason === undefined))
  );
}
