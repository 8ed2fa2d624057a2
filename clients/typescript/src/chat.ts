// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import { create } from "@bufbuild/protobuf";

import { Bounds, type CallOptions } from "./bounds.js";
import { type Calls, type Init, present } from "./calls.js";
import {
  type CancelTurnRequestSchema,
  type ChatEvent,
  type ChatRequestSchema,
  ChatService,
  type GetTurnRequestSchema,
  type ResumeChatRequest,
  ResumeChatRequestSchema,
  StreamChatRequestSchema,
  type Turn,
} from "./gen/recollect/v1/chat_pb.js";
import { Pauses } from "./retry.js";

/** What a stream of events brings. */
type Events = AsyncIterable<{ event?: ChatEvent | undefined }>;

/** Chat with memory and cache. */
export class Chat {
  readonly #calls: Calls;
  readonly #timeoutMs: number;

  /** @internal */
  constructor(calls: Calls, timeoutMs: number) {
    this.#calls = calls;
    this.#timeoutMs = timeoutMs;
  }

  /** Sends a message and returns the turn with its reply. */
  async send(request: Init<typeof ChatRequestSchema>, options?: CallOptions): Promise<Turn> {
    const method = ChatService.method.chat;
    return present((await this.#calls.unary(method, request, options, this.#timeoutMs)).turn);
  }

  /**
   * Sends a message and yields what happens; the last event is `done` or `interrupted`.
   *
   * When the connection breaks, the events go on after the last one seen, without gap or repeat, as
   * long as the timeout allows, which is for all of it; without one for a minute without an event. A
   * second `started` means that the reply starts over.
   */
  async *stream(
    request: Init<typeof StreamChatRequestSchema>,
    options?: CallOptions,
  ): AsyncGenerator<ChatEvent, void, undefined> {
    const bounds = new Bounds(options, this.#timeoutMs);
    const message = this.#calls.prepared(StreamChatRequestSchema, request);
    const seen = create(ResumeChatRequestSchema, { userId: message.userId });
    const begin = () => this.#calls.stream(ChatService.method.streamChat, message, bounds, true);
    yield* this.#follow(begin, seen, bounds);
  }

  /** Yields the events of a turn after the last one seen, as `stream` does. */
  async *resume(
    request: Init<typeof ResumeChatRequestSchema>,
    options?: CallOptions,
  ): AsyncGenerator<ChatEvent, void, undefined> {
    const bounds = new Bounds(options, this.#timeoutMs);
    const seen = this.#calls.prepared(ResumeChatRequestSchema, request);
    yield* this.#follow(this.#resumed(seen, bounds), seen, bounds);
  }

  /** Returns a turn. */
  async getTurn(request: Init<typeof GetTurnRequestSchema>, options?: CallOptions): Promise<Turn> {
    return present((await this.#calls.unary(ChatService.method.getTurn, request, options)).turn);
  }

  /** Ends a running turn; what was said is kept. */
  async cancelTurn(
    request: Init<typeof CancelTurnRequestSchema>,
    options?: CallOptions,
  ): Promise<Turn> {
    return present((await this.#calls.unary(ChatService.method.cancelTurn, request, options)).turn);
  }

  /**
   * Yields the events of a turn. A stream that breaks is resumed after the last event seen. Before the
   * first event the stream itself is begun again, with the same request id.
   */
  async *#follow(
    begin: () => Events,
    seen: ResumeChatRequest,
    bounds: Bounds,
  ): AsyncGenerator<ChatEvent, void, undefined> {
    const pauses = new Pauses();
    for (;;) {
      let begun = false;
      try {
        for await (const response of begin()) {
          const event = present(response.event);
          if (event.kind.case === "started") {
            seen.turnId = event.kind.value.turnId;
            seen.attempt = event.kind.value.attempt;
          }
          seen.afterSequence = event.sequence;
          begun = true;
          pauses.reset();
          yield event;
        }
        return;
      } catch (error) {
        if (!this.#calls.isUnavailable(error, bounds)) {
          throw error;
        }
        const lost = error.reason === undefined || error.reason === "SHUTTING_DOWN";
        const again =
          lost && seen.turnId !== "" ? pauses.goesOn(bounds) : !begun && !pauses.areUsedUp;
        if (!again) {
          throw error;
        }
      }
      await pauses.wait(bounds);
      if (seen.turnId !== "") {
        begin = this.#resumed(seen, bounds);
      }
    }
  }

  #resumed(seen: ResumeChatRequest, bounds: Bounds): () => Events {
    return () => this.#calls.stream(ChatService.method.resumeChat, seen, bounds, true);
  }
}
