// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import { BlockList, isIP } from "node:net";

import { type ChannelCredentials, type ClientOptions, credentials } from "@grpc/grpc-js";

import { milliseconds } from "./bounds.js";

/**
 * Returns the credential of a call: an API key or a token. It is asked before each call, so it should
 * keep what it got until it expires.
 */
export type TokenSource = () => string | Promise<string>;

/** How the server and the client prove who they are. */
export interface TlsOptions {
  /** PEM of the authorities to trust. Default: the system's. */
  rootCertificates?: string | Buffer | undefined;
  /** PEM of the client's own certificates, if the server asks for one. */
  certificateChain?: string | Buffer | undefined;
  /** PEM of their key. */
  privateKey?: string | Buffer | undefined;
}

/** What a client is made with. Every option has a default. */
export interface RecollectOptions {
  /** HOST:PORT or unix:PATH. Default: `127.0.0.1:50051`, where `make run` serves. */
  address?: string | undefined;
  /** Whose memory, where a request does not say. Default: none; the server refuses such a request. */
  userId?: string | undefined;
  /** Sent with every call. */
  apiKey?: string | undefined;
  /** What it returns is sent with every call; instead of `apiKey`. */
  token?: TokenSource | undefined;
  /** Encrypt; `true` trusts the system's authorities. Default: plain text. */
  tls?: boolean | TlsOptions | undefined;
  /** Let a credential cross the network in plain text, on a network that is trusted. */
  insecure?: boolean | undefined;
  /** Milliseconds that a call may take, unless it says otherwise. Default: 30,000. */
  timeoutMs?: number | undefined;
  /** The same for chat. Default: 300,000. */
  chatTimeoutMs?: number | undefined;
  /** More options of grpc-js, such as interceptors that trace. */
  grpcOptions?: ClientOptions | undefined;
}

/** The options with their defaults. */
export interface Settings {
  readonly address: string;
  readonly userId: string;
  readonly token: TokenSource | undefined;
  readonly credentials: ChannelCredentials;
  readonly timeoutMs: number;
  readonly chatTimeoutMs: number;
  readonly grpcOptions: ClientOptions;
}

/**
 * Returns the options with their defaults.
 *
 * @throws TypeError if the address is none, if a credential would cross the network in plain text, or
 * if there are two.
 */
export function settings(options: RecollectOptions): Settings {
  const { address = "127.0.0.1:50051", apiKey, tls, insecure } = options;
  if (!/^\S+$/.test(address) || /^https?:/.test(address)) {
    throw new TypeError(`address must be HOST:PORT or unix:PATH, not "${address}"`);
  }
  if (apiKey !== undefined && options.token !== undefined) {
    throw new TypeError("apiKey and token are two credentials: give one");
  }
  const token = apiKey === undefined ? options.token : () => apiKey;
  if (token !== undefined && !tls && !insecure && !isLocal(address)) {
    throw new TypeError(
      `a credential would cross the network to ${address} in plain text: ` +
        "use tls, or insecure: true if the network is trusted",
    );
  }
  return {
    address,
    userId: options.userId ?? "",
    token,
    credentials: tls ? secure(tls === true ? {} : tls) : credentials.createInsecure(),
    timeoutMs: milliseconds("timeoutMs", options.timeoutMs ?? 30_000),
    chatTimeoutMs: milliseconds("chatTimeoutMs", options.chatTimeoutMs ?? 300_000),
    grpcOptions: options.grpcOptions ?? {},
  };
}

/** Returns options, and where they say nothing what RECOLLECT_ADDRESS, _API_KEY, _USER_ID, _TLS say. */
export function environment(
  options: RecollectOptions,
  variables: NodeJS.ProcessEnv,
): RecollectOptions {
  const value = (name: string) => {
    const found = variables[`RECOLLECT_${name}`];
    return found === "" ? undefined : found;
  };
  return {
    ...options,
    address: options.address ?? value("ADDRESS"),
    apiKey: options.apiKey ?? (options.token === undefined ? value("API_KEY") : undefined),
    userId: options.userId ?? value("USER_ID"),
    tls: options.tls ?? ["1", "true", "yes"].includes(value("TLS")?.toLowerCase() ?? ""),
  };
}

function secure({
  rootCertificates,
  certificateChain,
  privateKey,
}: TlsOptions): ChannelCredentials {
  return credentials.createSsl(bytes(rootCertificates), bytes(privateKey), bytes(certificateChain));
}

function bytes(pem: string | Buffer | undefined): Buffer | null {
  return pem === undefined ? null : Buffer.from(pem);
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8);
LOOPBACK.addAddress("::1", "ipv6");

/** Whether calls to an address stay on this machine. */
export function isLocal(address: string): boolean {
  if (address.startsWith("unix:")) {
    return true;
  }
  const host = address.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");
  const version = isIP(host);
  return (
    host === "localhost" || (version !== 0 && LOOPBACK.check(host, version === 6 ? "ipv6" : "ipv4"))
  );
}
