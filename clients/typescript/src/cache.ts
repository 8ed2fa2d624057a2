// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import { clone } from "@bufbuild/protobuf";

import type { CallOptions } from "./bounds.js";
import { type Calls, type Init, present } from "./calls.js";
import {
  BatchLookupRequestSchema,
  type CacheEntry,
  CacheService,
  type GetEntryRequestSchema,
  type GetStatsRequestSchema,
  type GetStatsResponse,
  type InvalidateRequestSchema,
  type ListEntriesRequestSchema,
  LookupRequestSchema,
  type LookupResponse,
  type ReportFeedbackRequestSchema,
  type StoreRequestSchema,
} from "./gen/recollect/v1/cache_pb.js";

/** The answer cache. A miss is a result, not an error. */
export class Cache {
  readonly #calls: Calls;

  /** @internal */
  constructor(calls: Calls) {
    this.#calls = calls;
  }

  /** Looks for an answer to a prompt. */
  lookup(
    request: Init<typeof LookupRequestSchema>,
    options?: CallOptions,
  ): Promise<LookupResponse> {
    return this.#calls.unary(CacheService.method.lookup, request, options);
  }

  /** Looks for answers to several prompts at once; the results are in their order. */
  async batchLookup(
    request: Init<typeof BatchLookupRequestSchema>,
    options?: CallOptions,
  ): Promise<LookupResponse[]> {
    const message = this.#calls.prepared(BatchLookupRequestSchema, request);
    const { userId } = message;
    message.lookups = message.lookups.map((lookup) => {
      const own = clone(LookupRequestSchema, lookup);
      own.userId ||= userId;
      return own;
    });
    const method = CacheService.method.batchLookup;
    return (await this.#calls.unary(method, message, options)).results;
  }

  /** Stores the answer to a prompt. */
  async store(
    request: Init<typeof StoreRequestSchema>,
    options?: CallOptions,
  ): Promise<CacheEntry> {
    const response = await this.#calls.unary(CacheService.method.store, request, options);
    return present(response.entry);
  }

  /** Removes the entries that the selector names and returns how many they were. */
  async invalidate(
    request: Init<typeof InvalidateRequestSchema>,
    options?: CallOptions,
  ): Promise<bigint> {
    const response = await this.#calls.unary(CacheService.method.invalidate, request, options);
    return response.count;
  }

  /** Says that a served answer was right or wrong. */
  async reportFeedback(
    request: Init<typeof ReportFeedbackRequestSchema>,
    options?: CallOptions,
  ): Promise<void> {
    await this.#calls.unary(CacheService.method.reportFeedback, request, options);
  }

  /** Returns hits, misses, savings and observed errors. */
  getStats(
    request: Init<typeof GetStatsRequestSchema> = {},
    options?: CallOptions,
  ): Promise<GetStatsResponse> {
    return this.#calls.unary(CacheService.method.getStats, request, options);
  }

  /** Yields the entries of a scope, newest first, over all pages. */
  listEntries(
    request: Init<typeof ListEntriesRequestSchema> = {},
    options?: CallOptions,
  ): AsyncGenerator<CacheEntry, void, undefined> {
    const method = CacheService.method.listEntries;
    return this.#calls.list(method, request, options, (page) => page.entries);
  }

  /** Returns an entry. */
  async getEntry(
    request: Init<typeof GetEntryRequestSchema>,
    options?: CallOptions,
  ): Promise<CacheEntry> {
    const response = await this.#calls.unary(CacheService.method.getEntry, request, options);
    return present(response.entry);
  }
}
