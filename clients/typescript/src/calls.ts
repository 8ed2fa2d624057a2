// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import { randomUUID } from "node:crypto";

import type {
  DescMessage,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { clone, create, isMessage } from "@bufbuild/protobuf";

import { Bounds, type CallOptions } from "./bounds.js";
import { RecollectError } from "./errors.js";
import type { Transport } from "./transport.js";

/** A request as a caller gives it: a plain object or a message. */
export type Init<Schema extends DescMessage> = MessageInitShape<Schema>;

/** Where a page of a list begins, and the next one. */
interface Paged {
  pageToken: string;
}
interface Page {
  nextPageToken: string;
}

/**
 * Makes requests whole, with a user and a request id where they have such fields and leave them empty,
 * and sends them within their bounds.
 */
export class Calls {
  readonly #transport: Transport;
  readonly #userId: string;
  readonly #timeoutMs: number;

  constructor(transport: Transport, userId: string, timeoutMs: number) {
    this.#transport = transport;
    this.#userId = userId;
    this.#timeoutMs = timeoutMs;
  }

  /** Returns a copy of a request, made whole. */
  prepared<I extends DescMessage>(schema: I, request: Init<I>): MessageShape<I> {
    const message = isMessage(request, schema) ? clone(schema, request) : create(schema, request);
    const fields = message as { userId?: unknown; requestId?: unknown };
    if (fields.userId === "") {
      fields.userId = this.#userId;
    }
    if (fields.requestId === "") {
      fields.requestId = randomUUID();
    }
    return message;
  }

  /** Runs a unary call. */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: Init<I>,
    options: CallOptions | undefined,
    timeoutMs = this.#timeoutMs,
  ): Promise<MessageShape<O>> {
    const message = this.prepared(method.input, request);
    return await this.#transport.unary(method, message, new Bounds(options, timeoutMs));
  }

  /** Yields the items of all pages from the request's on. */
  async *list<I extends DescMessage, O extends DescMessage, Item>(
    method: DescMethodUnary<I, O> & { input: I; output: O },
    request: Init<I>,
    options: CallOptions | undefined,
    items: (page: MessageShape<O>) => Item[],
  ): AsyncGenerator<Item, void, undefined> {
    const message = this.prepared(method.input, request);
    const paged = message as MessageShape<I> & Paged;
    do {
      const bounds = new Bounds(options, this.#timeoutMs);
      const page = (await this.#transport.unary(method, paged, bounds)) as MessageShape<O> & Page;
      yield* items(page);
      paged.pageToken = page.nextPageToken;
    } while (paged.pageToken !== "");
  }

  /** Runs a call that streams responses, of a request that is whole; `once` is not repeated. */
  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    bounds: Bounds,
    once = false,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    return this.#transport.stream(method, request, bounds, once);
  }

  /** Whether a stream failed so that it may be taken up again. */
  isUnavailable(error: unknown, bounds: Bounds): error is RecollectError {
    return this.#transport.isUnavailable(error, bounds);
  }

  /** Runs a call that streams requests, which are whole. */
  upload<I extends DescMessage, O extends DescMessage>(
    method: DescMethodClientStreaming<I, O>,
    requests: Iterable<MessageShape<I>> | AsyncIterable<MessageShape<I>>,
    bounds: Bounds,
  ): Promise<MessageShape<O>> {
    return this.#transport.upload(method, requests, bounds);
  }
}

/** Returns what a response always has. */
export function present<Value>(value: Value | undefined): Value {
  if (value === undefined) {
    throw new RecollectError("INTERNAL", "the server left out what its response always has");
  }
  return value;
}
