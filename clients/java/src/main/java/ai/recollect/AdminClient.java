// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import static ai.recollect.v1.AdminServiceGrpc.getCreateApiKeyMethod;
import static ai.recollect.v1.AdminServiceGrpc.getEraseUserMethod;
import static ai.recollect.v1.AdminServiceGrpc.getExportUserMethod;
import static ai.recollect.v1.AdminServiceGrpc.getGetServerInfoMethod;
import static ai.recollect.v1.AdminServiceGrpc.getGetUsageMethod;
import static ai.recollect.v1.AdminServiceGrpc.getImportUserMethod;
import static ai.recollect.v1.AdminServiceGrpc.getListApiKeysMethod;
import static ai.recollect.v1.AdminServiceGrpc.getListAuditEventsMethod;
import static ai.recollect.v1.AdminServiceGrpc.getListJobsMethod;
import static ai.recollect.v1.AdminServiceGrpc.getReindexMethod;
import static ai.recollect.v1.AdminServiceGrpc.getRetryJobMethod;
import static ai.recollect.v1.AdminServiceGrpc.getRevokeApiKeyMethod;

import ai.recollect.v1.ApiKey;
import ai.recollect.v1.AuditEvent;
import ai.recollect.v1.CreateApiKeyRequest;
import ai.recollect.v1.CreateApiKeyResponse;
import ai.recollect.v1.EraseUserRequest;
import ai.recollect.v1.EraseUserResponse;
import ai.recollect.v1.ExportUserRequest;
import ai.recollect.v1.ExportUserResponse;
import ai.recollect.v1.GetServerInfoRequest;
import ai.recollect.v1.GetServerInfoResponse;
import ai.recollect.v1.GetUsageRequest;
import ai.recollect.v1.GetUsageResponse;
import ai.recollect.v1.ImportUserRequest;
import ai.recollect.v1.Job;
import ai.recollect.v1.LimitUsage;
import ai.recollect.v1.ListApiKeysRequest;
import ai.recollect.v1.ListApiKeysResponse;
import ai.recollect.v1.ListAuditEventsRequest;
import ai.recollect.v1.ListAuditEventsResponse;
import ai.recollect.v1.ListJobsRequest;
import ai.recollect.v1.ListJobsResponse;
import ai.recollect.v1.ReindexRequest;
import ai.recollect.v1.ReindexResponse;
import ai.recollect.v1.RetryJobRequest;
import ai.recollect.v1.RetryJobResponse;
import ai.recollect.v1.RevokeApiKeyRequest;
import ai.recollect.v1.RevokeApiKeyResponse;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** Administration of a tenant and of the server. Its requests name their user themselves. */
public final class AdminClient {
  private final Calls calls;
  private final Calls streams;

  AdminClient(Calls calls, Calls streams) {
    this.calls = calls;
    this.streams = streams;
  }

  /** Returns the same with this bound for each call, streams included. */
  public AdminClient withTimeout(Duration timeout) {
    return new AdminClient(calls.within(timeout), streams.within(timeout));
  }

  /** Erases a user everywhere and returns the receipt. */
  public EraseUserResponse eraseUser(EraseUserRequest request) {
    return calls.run(getEraseUserMethod(), request);
  }

  /** Does what {@link #eraseUser} does, without waiting. */
  public CompletableFuture<EraseUserResponse> eraseUserAsync(EraseUserRequest request) {
    return calls.start(getEraseUserMethod(), request, response -> response);
  }

  /** Streams everything kept of a user, a JSON object each. */
  public RecollectStream<String> exportUser(ExportUserRequest request) {
    return streams.open(getExportUserMethod(), request, ExportUserResponse::getRecordJson);
  }

  /**
   * Stores what {@link #exportUser} streams, here or at another server, and returns the number of
   * records.
   */
  public long importUser(String userId, Iterable<String> records) {
    Iterator<String> each = records.iterator();
    Iterator<ImportUserRequest> requests =
        new Iterator<>() {
          @Override
          public boolean hasNext() {
            return each.hasNext();
          }

          @Override
          public ImportUserRequest next() {
            return ImportUserRequest.newBuilder()
                .setUserId(userId)
                .setRecordJson(each.next())
                .build();
          }
        };
    return streams.upload(getImportUserMethod(), requests).getRecords();
  }

  /** Lists the tenant's audit events, newest first, over all pages. */
  public Listing<AuditEvent> listAuditEvents(ListAuditEventsRequest request) {
    return calls.list(
        getListAuditEventsMethod(),
        request,
        ListAuditEventsResponse::getEventsList,
        ListAuditEventsResponse::getNextPageToken);
  }

  /** Makes an API key; its token is in the response and nowhere else. */
  public CreateApiKeyResponse createApiKey(CreateApiKeyRequest request) {
    return calls.run(getCreateApiKeyMethod(), request);
  }

  /** Does what {@link #createApiKey} does, without waiting. */
  public CompletableFuture<CreateApiKeyResponse> createApiKeyAsync(CreateApiKeyRequest request) {
    return calls.start(getCreateApiKeyMethod(), request, response -> response);
  }

  /** Lists the tenant's API keys, newest first, over all pages. */
  public Listing<ApiKey> listApiKeys(ListApiKeysRequest request) {
    return calls.list(
        getListApiKeysMethod(),
        request,
        ListApiKeysResponse::getApiKeysList,
        ListApiKeysResponse::getNextPageToken);
  }

  /** Revokes an API key at once. */
  public ApiKey revokeApiKey(RevokeApiKeyRequest request) {
    return calls.run(getRevokeApiKeyMethod(), request).getApiKey();
  }

  /** Does what {@link #revokeApiKey} does, without waiting. */
  public CompletableFuture<ApiKey> revokeApiKeyAsync(RevokeApiKeyRequest request) {
    return calls.start(getRevokeApiKeyMethod(), request, RevokeApiKeyResponse::getApiKey);
  }

  /** Builds an index anew, in the background, and returns the job's id. */
  public String reindex(ReindexRequest request) {
    return calls.run(getReindexMethod(), request).getJobId();
  }

  /** Does what {@link #reindex} does, without waiting. */
  public CompletableFuture<String> reindexAsync(ReindexRequest request) {
    return calls.start(getReindexMethod(), request, ReindexResponse::getJobId);
  }

  /** Lists background jobs, dead letters first, over all pages. */
  public Listing<Job> listJobs(ListJobsRequest request) {
    return calls.list(
        getListJobsMethod(),
        request,
        ListJobsResponse::getJobsList,
        ListJobsResponse::getNextPageToken);
  }

  /** Makes a job due now that does not run, a dead letter too. */
  public Job retryJob(RetryJobRequest request) {
    return calls.run(getRetryJobMethod(), request).getJob();
  }

  /** Does what {@link #retryJob} does, without waiting. */
  public CompletableFuture<Job> retryJobAsync(RetryJobRequest request) {
    return calls.start(getRetryJobMethod(), request, RetryJobResponse::getJob);
  }

  /** Says what the server is, what it uses, and who the caller is to it. */
  public GetServerInfoResponse getServerInfo(GetServerInfoRequest request) {
    return calls.run(getGetServerInfoMethod(), request);
  }

  /** Does what {@link #getServerInfo} does, without waiting. */
  public CompletableFuture<GetServerInfoResponse> getServerInfoAsync(GetServerInfoRequest request) {
    return calls.start(getGetServerInfoMethod(), request, response -> response);
  }

  /** Says what the tenant, or one user, uses of each limit. */
  public List<LimitUsage> getUsage(GetUsageRequest request) {
    return calls.run(getGetUsageMethod(), request).getLimitsList();
  }

  /** Does what {@link #getUsage} does, without waiting. */
  public CompletableFuture<List<LimitUsage>> getUsageAsync(GetUsageRequest request) {
    return calls.start(getGetUsageMethod(), request, GetUsageResponse::getLimitsList);
  }
}
