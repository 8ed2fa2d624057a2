// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import { create } from "@bufbuild/protobuf";

import { Bounds, type CallOptions } from "./bounds.js";
import { type Calls, type Init, present } from "./calls.js";
import {
  AdminService,
  type ApiKey,
  type AuditEvent,
  type CreateApiKeyRequestSchema,
  type CreateApiKeyResponse,
  type EraseUserRequestSchema,
  type EraseUserResponse,
  ExportUserRequestSchema,
  type GetServerInfoRequestSchema,
  type GetServerInfoResponse,
  type GetUsageRequestSchema,
  type ImportUserRequest,
  ImportUserRequestSchema,
  type Job,
  type LimitUsage,
  type ListApiKeysRequestSchema,
  type ListAuditEventsRequestSchema,
  type ListJobsRequestSchema,
  type ReindexRequestSchema,
  type RetryJobRequestSchema,
  type RevokeApiKeyRequestSchema,
} from "./gen/recollect/v1/admin_pb.js";

/** Administration of a tenant and of the server. Its requests name their user themselves. */
export class Admin {
  readonly #calls: Calls;

  /** @internal */
  constructor(calls: Calls) {
    this.#calls = calls;
  }

  /** Erases a user everywhere and returns the receipt. */
  eraseUser(
    request: Init<typeof EraseUserRequestSchema>,
    options?: CallOptions,
  ): Promise<EraseUserResponse> {
    return this.#calls.unary(AdminService.method.eraseUser, request, options);
  }

  /** Yields everything kept of a user, a JSON object each. It has no timeout unless it is given one. */
  async *exportUser(
    request: Init<typeof ExportUserRequestSchema>,
    options?: CallOptions,
  ): AsyncGenerator<string, void, undefined> {
    const message = this.#calls.prepared(ExportUserRequestSchema, request);
    const bounds = new Bounds(options, Infinity);
    const method = AdminService.method.exportUser;
    for await (const { recordJson } of this.#calls.stream(method, message, bounds)) {
      yield recordJson;
    }
  }

  /**
   * Stores what `exportUser` yields, here or at another server, and returns the number of records. What
   * iterating over them throws ends it, and is thrown. It has no timeout unless it is given one.
   */
  async importUser(
    userId: string,
    records: Iterable<string> | AsyncIterable<string>,
    options?: CallOptions,
  ): Promise<bigint> {
    const bounds = new Bounds(options, Infinity);
    const response = await this.#calls.upload(
      AdminService.method.importUser,
      uploads(userId, records),
      bounds,
    );
    return response.records;
  }

  /** Yields the tenant's audit events, newest first, over all pages. */
  listAuditEvents(
    request: Init<typeof ListAuditEventsRequestSchema> = {},
    options?: CallOptions,
  ): AsyncGenerator<AuditEvent, void, undefined> {
    const method = AdminService.method.listAuditEvents;
    return this.#calls.list(method, request, options, (page) => page.events);
  }

  /** Makes an API key; its token is in the response and nowhere else. */
  createApiKey(
    request: Init<typeof CreateApiKeyRequestSchema>,
    options?: CallOptions,
  ): Promise<CreateApiKeyResponse> {
    return this.#calls.unary(AdminService.method.createApiKey, request, options);
  }

  /** Yields the tenant's API keys, newest first, over all pages. */
  listApiKeys(
    request: Init<typeof ListApiKeysRequestSchema> = {},
    options?: CallOptions,
  ): AsyncGenerator<ApiKey, void, undefined> {
    const method = AdminService.method.listApiKeys;
    return this.#calls.list(method, request, options, (page) => page.apiKeys);
  }

  /** Revokes an API key at once. */
  async revokeApiKey(
    request: Init<typeof RevokeApiKeyRequestSchema>,
    options?: CallOptions,
  ): Promise<ApiKey> {
    const response = await this.#calls.unary(AdminService.method.revokeApiKey, request, options);
    return present(response.apiKey);
  }

  /** Builds an index anew, in the background, and returns the job's id. */
  async reindex(
    request: Init<typeof ReindexRequestSchema> = {},
    options?: CallOptions,
  ): Promise<string> {
    const response = await this.#calls.unary(AdminService.method.reindex, request, options);
    return response.jobId;
  }

  /** Yields background jobs, dead letters first, over all pages. */
  listJobs(
    request: Init<typeof ListJobsRequestSchema> = {},
    options?: CallOptions,
  ): AsyncGenerator<Job, void, undefined> {
    const method = AdminService.method.listJobs;
    return this.#calls.list(method, request, options, (page) => page.jobs);
  }

  /** Makes a job due now that does not run, a dead letter too. */
  async retryJob(request: Init<typeof RetryJobRequestSchema>, options?: CallOptions): Promise<Job> {
    const response = await this.#calls.unary(AdminService.method.retryJob, request, options);
    return present(response.job);
  }

  /** Says what the server is, what it uses, and who the caller is to it. */
  getServerInfo(
    request: Init<typeof GetServerInfoRequestSchema> = {},
    options?: CallOptions,
  ): Promise<GetServerInfoResponse> {
    return this.#calls.unary(AdminService.method.getServerInfo, request, options);
  }

  /** Says what the tenant, or one user, uses of each limit. */
  async getUsage(
    request: Init<typeof GetUsageRequestSchema> = {},
    options?: CallOptions,
  ): Promise<LimitUsage[]> {
    const response = await this.#calls.unary(AdminService.method.getUsage, request, options);
    return response.limits;
  }
}

async function* uploads(
  userId: string,
  records: Iterable<string> | AsyncIterable<string>,
): AsyncGenerator<ImportUserRequest, void, undefined> {
  for await (const recordJson of records) {
    yield create(ImportUserRequestSchema, { userId, recordJson });
  }
}
