// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import type {
  DescMessage,
  DescMethod,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageShape,
} from "@bufbuild/protobuf";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";

import type { Bounds } from "./bounds.js";
import { fromGrpc, RecollectError } from "./errors.js";
import { CHANNEL_OPTIONS, isUnavailable, Pauses } from "./retry.js";
import type { Settings, TokenSource } from "./settings.js";

/** Calls over one connection of grpc-js, with errors as `RecollectError`. */
export class Transport {
  readonly #client: grpc.Client;
  readonly #token: Settings["token"];
  readonly #running = new Set<{ cancel(): void }>();
  #closed = false;

  constructor(settings: Settings) {
    const options = { ...CHANNEL_OPTIONS, ...settings.grpcOptions };
    this.#client = new grpc.Client(settings.address, settings.credentials, options);
    this.#token = settings.token;
  }

  /**
   * Runs a unary call, again while the server is unavailable. Every one may be repeated: a write either
   * carries a request id or comes to the same when repeated.
   */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    bounds: Bounds,
  ): Promise<MessageShape<O>> {
    const sent = encoded(method.input, request);
    const pauses = new Pauses();
    for (;;) {
      const metadata = await this.#begin(bounds);
      const outcome = settled<MessageShape<O>>();
      const call = this.#client.makeUnaryRequest(
        path(method),
        unchanged,
        decoder(method.output),
        sent,
        metadata,
        { deadline: bounds.deadline },
        outcome.settle,
      );
      const end = this.#run(bounds, call);
      try {
        return await outcome.response;
      } catch (thrown) {
        const error = bounds.aborted() ?? fromGrpc(thrown);
        if (pauses.areUsedUp || !this.isUnavailable(error, bounds)) {
          throw error;
        }
      } finally {
        end();
      }
      await pauses.wait(bounds);
    }
  }

  /**
   * Runs a call that streams responses, again while it brings none because the server is unavailable,
   * unless it is to be made `once`. Leaving the iteration early ends it.
   */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    bounds: Bounds,
    once: boolean,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const sent = encoded(method.input, request);
    const pauses = new Pauses();
    for (;;) {
      const metadata = await this.#begin(bounds);
      const call = this.#client.makeServerStreamRequest(
        path(method),
        unchanged,
        decoder(method.output),
        sent,
        metadata,
        { deadline: bounds.deadline },
      );
      call.on("error", () => undefined); // The iteration throws it; after its end it means nothing.
      const end = this.#run(bounds, call);
      let begun = false;
      try {
        for await (const response of call) {
          begun = true;
          yield response as MessageShape<O>;
        }
        return;
      } catch (thrown) {
        const error = bounds.aborted() ?? fromGrpc(thrown);
        if (once || begun || pauses.areUsedUp || !this.isUnavailable(error, bounds)) {
          throw error;
        }
      } finally {
        end();
        call.cancel();
      }
      await pauses.wait(bounds);
    }
  }

  /** Runs a call that streams requests. What iterating over them throws ends it, and is thrown. */
  async upload<I extends DescMessage, O extends DescMessage>(
    method: DescMethodClientStreaming<I, O>,
    requests: Iterable<MessageShape<I>> | AsyncIterable<MessageShape<I>>,
    bounds: Bounds,
  ): Promise<MessageShape<O>> {
    const metadata = await this.#begin(bounds);
    const outcome = settled<MessageShape<O>>();
    const call = this.#client.makeClientStreamRequest(
      path(method),
      unchanged,
      decoder(method.output),
      metadata,
      { deadline: bounds.deadline },
      outcome.settle,
    );
    const response = outcome.response.catch((error: unknown) => {
      throw bounds.aborted() ?? fromGrpc(error);
    });
    response.catch(() => undefined); // It is awaited at the end, if the requests do not fail before.
    const end = this.#run(bounds, call);
    try {
      for await (const request of requests) {
        if (outcome.isSettled()) {
          break; // The server has ended the call; its response says why.
        }
        if (!call.write(encoded(method.input, request))) {
          const drained = new Promise((resolve) => call.once("drain", resolve));
          await Promise.race([drained, response]);
        }
      }
      call.end();
      return await response;
    } finally {
      end();
      call.cancel();
    }
  }

  /** Whether a call failed so that it may be made again, and neither its caller nor `close` ended it. */
  isUnavailable(error: unknown, bounds: Bounds): error is RecollectError {
    const ended = this.#closed || bounds.signal?.aborted === true;
    return !ended && isUnavailable(error);
  }

  /** Ends all calls and closes the connection. */
  close(): void {
    this.#closed = true;
    for (const call of this.#running) {
      call.cancel();
    }
    this.#client.close();
  }

  /** Returns the metadata of a call that begins, or throws if it must not. */
  async #begin(bounds: Bounds): Promise<grpc.Metadata> {
    const metadata = new grpc.Metadata();
    if (this.#token !== undefined) {
      await authorize(metadata, this.#token, bounds);
    }
    if (this.#closed) {
      throw new RecollectError("CANCELLED", "the client is closed");
    }
    const aborted = bounds.aborted();
    if (aborted) {
      throw aborted;
    }
    return metadata;
  }

  /** Ends a call when its signal aborts or the client is closed, until the returned function runs. */
  #run(bounds: Bounds, call: { cancel(): void }): () => void {
    const abort = () => {
      call.cancel();
    };
    this.#running.add(call);
    bounds.signal?.addEventListener("abort", abort, { once: true });
    return () => {
      this.#running.delete(call);
      bounds.signal?.removeEventListener("abort", abort);
    };
  }
}

/** Puts the credential that a source returns into the metadata of a call. */
async function authorize(metadata: grpc.Metadata, source: TokenSource, bounds: Bounds) {
  try {
    const found = source();
    const token = typeof found === "string" ? found : await bounds.within(found);
    if (!/^[\x21-\x7e]+$/.test(token)) {
      throw new TypeError("it must be printable ASCII, and not empty");
    }
    metadata.set("authorization", `Bearer ${token}`);
  } catch (cause) {
    if (cause instanceof RecollectError) {
      throw cause;
    }
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new RecollectError("UNAUTHENTICATED", `there is no credential to send: ${why}`, {
      cause,
    });
  }
}

function path({ parent, name }: DescMethod): string {
  return `/${parent.typeName}/${name}`;
}

/** A message in bytes: before gRPC has it, which would hide what is wrong with it. */
function encoded<Schema extends DescMessage>(
  schema: Schema,
  message: MessageShape<Schema>,
): Buffer {
  const { buffer, byteOffset, byteLength } = toBinary(schema, message);
  return Buffer.from(buffer, byteOffset, byteLength);
}

function decoder<Schema extends DescMessage>(
  schema: Schema,
): (bytes: Buffer) => MessageShape<Schema> {
  return (bytes) => fromBinary(schema, bytes);
}

function unchanged(bytes: Buffer): Buffer {
  return bytes;
}

/** The response of a call, and the callback that gRPC settles it by. */
interface Outcome<Response> {
  readonly response: Promise<Response>;
  readonly settle: grpc.requestCallback<Response>;
  readonly isSettled: () => boolean;
}

function settled<Response>(): Outcome<Response> {
  let done = false;
  let resolve: (response: Response) => void;
  let reject: (error: Error) => void;
  const response = new Promise<Response>((...functions) => ([resolve, reject] = functions));
  const settle = (error: grpc.ServiceError | null, value?: Response) => {
    done = true;
    if (value === undefined) {
      reject(error ?? new Error("neither a response nor an error"));
    } else {
      resolve(value);
    }
  };
  return { response, settle, isSettled: () => done };
}
