// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

// A server that answers as a test says.

import { once } from "node:events";

import {
  create,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";

/** What answers methods, by their names in the contract. */
export type Handlers = Record<string, grpc.UntypedHandleCall>;

/** A server on a port of its own. Declare it with `using`. */
export class Peer implements Disposable {
  readonly #server = new grpc.Server();
  address = "";

  static async serve(service: DescService, handlers: Handlers): Promise<Peer> {
    const peer = new Peer();
    peer.#server.addService(definition(service), handlers);
    const insecure = grpc.ServerCredentials.createInsecure();
    peer.address = await new Promise((resolve, reject) => {
      peer.#server.bindAsync("127.0.0.1:0", insecure, (error, port) => {
        if (error) {
          reject(error);
        } else {
          resolve(`127.0.0.1:${String(port)}`);
        }
      });
    });
    return peer;
  }

  [Symbol.dispose](): void {
    this.#server.forceShutdown();
  }
}

/** How grpc-js calls a service's methods. */
export function definition(service: DescService): grpc.ServiceDefinition {
  const methods = service.methods.map(({ name, methodKind, input, output }) => {
    const method: grpc.MethodDefinition<
      MessageShape<typeof input>,
      MessageInitShape<typeof output>
    > = {
      path: `/${service.typeName}/${name}`,
      requestStream: methodKind === "client_streaming",
      responseStream: methodKind === "server_streaming",
      requestSerialize: (message) => Buffer.from(toBinary(input, message)),
      requestDeserialize: (bytes) => fromBinary(input, bytes),
      responseSerialize: (message) => Buffer.from(toBinary(output, create(output, message))),
      responseDeserialize: (bytes) => fromBinary(output, bytes),
    };
    return [name, method] as const;
  });
  return Object.fromEntries(methods);
}

/** Resolves when the caller has ended a call. */
export async function ended(call: grpc.ServerWritableStream<unknown, unknown>): Promise<void> {
  if (!call.cancelled) {
    await once(call, "cancelled");
  }
}
