// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import { Admin } from "./admin.js";
import { Cache } from "./cache.js";
import { Calls } from "./calls.js";
import { Chat } from "./chat.js";
import { Memory } from "./memory.js";
import { environment, type RecollectOptions, settings } from "./settings.js";
import { Transport } from "./transport.js";

/**
 * A connection to a Recollect server, made when the first call is. Declare it with `using`, or call
 * {@link close}.
 *
 * Calls that find the server unavailable are repeated up to four times with growing pauses, within
 * their timeouts; writes carry a request id, so that a repeat is done once. A watch and a chat stream
 * go on by themselves where they broke off. A call that fails throws a `RecollectError`.
 */
export class Recollect {
  /** Sessions, messages, facts, recall. */
  readonly memory: Memory;
  /** The answer cache. */
  readonly cache: Cache;
  /** Chat with memory and cache. */
  readonly chat: Chat;
  /** Keys and the server itself. */
  readonly admin: Admin;

  readonly #transport: Transport;

  /**
   * @throws TypeError if the address is none, or if a credential would cross the network in plain text.
   * @throws RangeError if a timeout is no number of milliseconds.
   */
  constructor(options: RecollectOptions = {}) {
    const made = settings(options);
    this.#transport = new Transport(made);
    const calls = new Calls(this.#transport, made.userId, made.timeoutMs);
    this.memory = new Memory(calls);
    this.cache = new Cache(calls);
    this.chat = new Chat(calls, made.chatTimeoutMs);
    // What an administrator does to a user names that user.
    this.admin = new Admin(new Calls(this.#transport, "", made.timeoutMs));
  }

  /** Makes a client from RECOLLECT_ADDRESS, _API_KEY, _USER_ID and _TLS; the options given win. */
  static fromEnv(options: RecollectOptions = {}): Recollect {
    return new Recollect(environment(options, process.env));
  }

  /** Ends all calls and closes the connection. */
  close(): void {
    this.#transport.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
