// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { test } from "node:test";

import { Recollect } from "@recollect-ai/client";

import { environment, isLocal } from "../src/settings.js";

test("a credential does not cross the network in plain text", () => {
  for (const address of ["example.com:443", "10.0.0.1:50051", "[2001:db8::1]:50051"]) {
    for (const credential of [{ apiKey: "k" }, { token: () => "t" }]) {
      assert.throws(() => new Recollect({ address, ...credential }), TypeError);
      new Recollect({ address, ...credential, tls: true }).close();
      new Recollect({ address, ...credential, insecure: true }).close();
    }
    new Recollect({ address }).close();
  }
});

test("a credential stays on this machine", () => {
  for (const address of ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/tmp/s"]) {
    assert(isLocal(address), address);
  }
  for (const address of ["127.0.0.1.example.com:1", "localhost.example.com:1", "0.0.0.0:1", ""]) {
    assert(!isLocal(address), address);
  }
});

test("an address is not a URL", () => {
  for (const address of ["http://127.0.0.1:50051", "https://example.com", "", "a b:1"]) {
    assert.throws(() => new Recollect({ address }), TypeError);
  }
});

test("options that contradict are refused", () => {
  assert.throws(() => new Recollect({ apiKey: "k", token: () => "t" }), TypeError);
  assert.throws(() => new Recollect({ timeoutMs: -1 }), RangeError);
  assert.throws(() => new Recollect({ chatTimeoutMs: Number.NaN }), RangeError);
});

test("the environment is read, and options win", () => {
  const variables = {
    RECOLLECT_ADDRESS: "127.0.0.1:9",
    RECOLLECT_API_KEY: "k",
    RECOLLECT_USER_ID: "bob",
    RECOLLECT_TLS: "Yes",
  };
  const found = { address: "127.0.0.1:9", apiKey: "k", userId: "bob", tls: true };
  assert.deepEqual(environment({}, variables), found);
  assert.deepEqual(environment({ userId: "ada", tls: undefined }, variables), {
    ...found,
    userId: "ada",
  });
  const token = () => "t";
  assert.deepEqual(environment({ token }, variables), { ...found, apiKey: undefined, token });
  assert.deepEqual(environment({}, { RECOLLECT_API_KEY: "", RECOLLECT_TLS: "0" }), {
    address: undefined,
    apiKey: undefined,
    userId: undefined,
    tls: false,
  });
});
