// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import { Bounds, type CallOptions } from "./bounds.js";
import { type Calls, type Init, present } from "./calls.js";
import {
  type AppendMessagesRequestSchema,
  type AppendMessagesResponse,
  type ClearSessionRequestSchema,
  type CompactSessionRequestSchema,
  type CreateSessionRequestSchema,
  type DeleteSessionRequestSchema,
  type Episode,
  type ExtractFactsRequestSchema,
  type ExtractFactsResponse,
  type Fact,
  type ForgetFactRequestSchema,
  type GetContextRequestSchema,
  type GetContextResponse,
  type GetEpisodeRequestSchema,
  type GetFactHistoryRequestSchema,
  type GetFactRequestSchema,
  type GetSessionRequestSchema,
  type ListEpisodesRequestSchema,
  type ListFactsRequestSchema,
  type ListMessagesRequestSchema,
  type ListSessionsRequestSchema,
  MemoryService,
  type Message,
  type RecallRequestSchema,
  type RecallResponse,
  type RememberRequestSchema,
  type RememberResponse,
  type Session,
  type UpdateFactRequestSchema,
  type UpdateSessionRequestSchema,
  WatchRequestSchema,
  type WatchResponse,
} from "./gen/recollect/v1/memory_pb.js";
import { watch } from "./watch.js";

/** Conversation memory: sessions and their messages, facts, recall, and changes as they happen. */
export class Memory {
  readonly #calls: Calls;

  /** @internal */
  constructor(calls: Calls) {
    this.#calls = calls;
  }

  /** Creates a session; without an id the server makes one. */
  async createSession(
    request: Init<typeof CreateSessionRequestSchema> = {},
    options?: CallOptions,
  ): Promise<Session> {
    const response = await this.#calls.unary(MemoryService.method.createSession, request, options);
    return present(response.session);
  }

  /** Returns a session. */
  async getSession(
    request: Init<typeof GetSessionRequestSchema>,
    options?: CallOptions,
  ): Promise<Session> {
    const response = await this.#calls.unary(MemoryService.method.getSession, request, options);
    return present(response.session);
  }

  /** Yields a user's sessions, most recently updated first, over all pages. */
  listSessions(
    request: Init<typeof ListSessionsRequestSchema> = {},
    options?: CallOptions,
  ): AsyncGenerator<Session, void, undefined> {
    const method = MemoryService.method.listSessions;
    return this.#calls.list(method, request, options, (page) => page.sessions);
  }

  /** Changes the fields that the mask names. */
  async updateSession(
    request: Init<typeof UpdateSessionRequestSchema>,
    options?: CallOptions,
  ): Promise<Session> {
    const response = await this.#calls.unary(MemoryService.method.updateSession, request, options);
    return present(response.session);
  }

  /** Starts the conversation anew; the transcript stays. */
  async clearSession(
    request: Init<typeof ClearSessionRequestSchema>,
    options?: CallOptions,
  ): Promise<Session> {
    const response = await this.#calls.unary(MemoryService.method.clearSession, request, options);
    return present(response.session);
  }

  /** Deletes a session and what was drawn from it alone. */
  async deleteSession(
    request: Init<typeof DeleteSessionRequestSchema>,
    options?: CallOptions,
  ): Promise<void> {
    await this.#calls.unary(MemoryService.method.deleteSession, request, options);
  }

  /** Appends messages, all or none; they are durable when it returns. */
  appendMessages(
    request: Init<typeof AppendMessagesRequestSchema>,
    options?: CallOptions,
  ): Promise<AppendMessagesResponse> {
    return this.#calls.unary(MemoryService.method.appendMessages, request, options);
  }

  /** Yields a session's messages over all pages. */
  listMessages(
    request: Init<typeof ListMessagesRequestSchema>,
    options?: CallOptions,
  ): AsyncGenerator<Message, void, undefined> {
    const method = MemoryService.method.listMessages;
    return this.#calls.list(method, request, options, (page) => page.messages);
  }

  /** Returns what to put into a model's prompt. */
  getContext(
    request: Init<typeof GetContextRequestSchema>,
    options?: CallOptions,
  ): Promise<GetContextResponse> {
    return this.#calls.unary(MemoryService.method.getContext, request, options);
  }

  /** Stores facts, all or none; they are durable when it returns. */
  remember(
    request: Init<typeof RememberRequestSchema>,
    options?: CallOptions,
  ): Promise<RememberResponse> {
    return this.#calls.unary(MemoryService.method.remember, request, options);
  }

  /** Finds facts, turns and episodes by meaning and words. */
  recall(
    request: Init<typeof RecallRequestSchema>,
    options?: CallOptions,
  ): Promise<RecallResponse> {
    return this.#calls.unary(MemoryService.method.recall, request, options);
  }

  /** Returns the current version of a fact. */
  async getFact(request: Init<typeof GetFactRequestSchema>, options?: CallOptions): Promise<Fact> {
    const response = await this.#calls.unary(MemoryService.method.getFact, request, options);
    return present(response.fact);
  }

  /** Yields a user's facts, most recently recorded first, over all pages. */
  listFacts(
    request: Init<typeof ListFactsRequestSchema> = {},
    options?: CallOptions,
  ): AsyncGenerator<Fact, void, undefined> {
    const method = MemoryService.method.listFacts;
    return this.#calls.list(method, request, options, (page) => page.facts);
  }

  /** Writes the next version of a fact. */
  async updateFact(
    request: Init<typeof UpdateFactRequestSchema>,
    options?: CallOptions,
  ): Promise<Fact> {
    const response = await this.#calls.unary(MemoryService.method.updateFact, request, options);
    return present(response.fact);
  }

  /** Deletes a fact with its whole history. */
  async forgetFact(
    request: Init<typeof ForgetFactRequestSchema>,
    options?: CallOptions,
  ): Promise<void> {
    await this.#calls.unary(MemoryService.method.forgetFact, request, options);
  }

  /** Returns every version of a fact, oldest first. */
  async getFactHistory(
    request: Init<typeof GetFactHistoryRequestSchema>,
    options?: CallOptions,
  ): Promise<Fact[]> {
    const response = await this.#calls.unary(MemoryService.method.getFactHistory, request, options);
    return response.versions;
  }

  /** Extracts facts from a session's messages not yet read, now. */
  extractFacts(
    request: Init<typeof ExtractFactsRequestSchema>,
    options?: CallOptions,
  ): Promise<ExtractFactsResponse> {
    return this.#calls.unary(MemoryService.method.extractFacts, request, options);
  }

  /** Brings a session's rolling summary up to date, now. */
  async compactSession(
    request: Init<typeof CompactSessionRequestSchema>,
    options?: CallOptions,
  ): Promise<Session> {
    const response = await this.#calls.unary(MemoryService.method.compactSession, request, options);
    return present(response.session);
  }

  /** Yields a user's episodes, newest first, over all pages. */
  listEpisodes(
    request: Init<typeof ListEpisodesRequestSchema> = {},
    options?: CallOptions,
  ): AsyncGenerator<Episode, void, undefined> {
    const method = MemoryService.method.listEpisodes;
    return this.#calls.list(method, request, options, (page) => page.episodes);
  }

  /** Returns an episode. */
  async getEpisode(
    request: Init<typeof GetEpisodeRequestSchema>,
    options?: CallOptions,
  ): Promise<Episode> {
    const response = await this.#calls.unary(MemoryService.method.getEpisode, request, options);
    return present(response.episode);
  }

  /**
   * Yields the changes of a user or of a session, in order, until the caller stops.
   *
   * Without a `resumeToken` the first response comes at once and has no subject: whatever is written
   * after it will be yielded. While the server cannot be reached it is asked again, and the changes go
   * on where they broke off, without gap or repeat. Keep the last `resumeToken` to go on after a crash
   * of yours. A watch has no timeout unless it is given one.
   */
  async *watch(
    request: Init<typeof WatchRequestSchema> = {},
    options?: CallOptions,
  ): AsyncGenerator<WatchResponse, void, undefined> {
    const message = this.#calls.prepared(WatchRequestSchema, request);
    yield* watch(this.#calls, message, new Bounds(options, Infinity));
  }
}
