// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import { setMaxListeners } from "node:events";

import { RecollectError } from "./errors.js";

/** What a call may say of itself. */
export interface CallOptions {
  /**
   * Milliseconds that the call may take, repeats included; of a list, each page. `Infinity` bounds
   * nothing. Default: the client's.
   */
  timeoutMs?: number | undefined;
  /** Ends the call when it aborts. */
  signal?: AbortSignal | undefined;
}

/** The longest time that a timer can be set to: later deadlines are left to gRPC. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** When a call must end. */
export class Bounds {
  /** Milliseconds since 1970, or Infinity. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;

  constructor(options: CallOptions | undefined, defaultTimeoutMs: number) {
    this.deadline = Date.now() + milliseconds("timeoutMs", options?.timeoutMs ?? defaultTimeoutMs);
    this.signal = options?.signal;
    if (this.signal) {
      setMaxListeners(0, this.signal); // It may end many calls: node would take that for a leak.
    }
  }

  /** The error of a call that the caller's signal ended, undefined if it has not aborted. */
  aborted(): RecollectError | undefined {
    if (!this.signal?.aborted) {
      return undefined;
    }
    const cause: unknown = this.signal.reason;
    return cause instanceof DOMException && cause.name === "TimeoutError"
      ? new RecollectError("DEADLINE_EXCEEDED", "the call took too long", { cause })
      : new RecollectError("CANCELLED", "the call was cancelled", { cause });
  }

  /** Waits for what is awaited, but no longer than the call may take. */
  async within<Value>(awaited: Promise<Value>): Promise<Value> {
    const { deadline, signal } = this;
    let timer: NodeJS.Timeout | undefined;
    let abort: (() => void) | undefined;
    const ended = new Promise<never>((_, reject) => {
      const left = deadline - Date.now();
      if (left <= LONGEST_TIMER) {
        timer = setTimeout(() => {
          reject(new RecollectError("DEADLINE_EXCEEDED", "the call took too long"));
        }, left);
      }
      abort = () => {
        reject(this.aborted() ?? new RecollectError("CANCELLED", "the call was cancelled"));
      };
      if (signal?.aborted) {
        abort();
      }
      signal?.addEventListener("abort", abort, { once: true });
    });
    try {
      return await Promise.race([awaited, ended]);
    } finally {
      clearTimeout(timer);
      if (abort) {
        signal?.removeEventListener("abort", abort);
      }
    }
  }

  /** Waits so many milliseconds, or throws if the call ends first. */
  async pause(pauseMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    try {
      await this.within(new Promise((resolve) => (timer = setTimeout(resolve, pauseMs))));
    } finally {
      clearTimeout(timer);
    }
  }
}

/**
 * Returns a number of milliseconds.
 *
 * @throws RangeError if it is none.
 */
export function milliseconds(name: string, value: number): number {
  if (!(value >= 0)) {
    throw new RangeError(`${name} must be a number of milliseconds, not ${String(value)}`);
  }
  return value;
}
