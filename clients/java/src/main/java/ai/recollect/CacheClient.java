// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import static ai.recollect.v1.CacheServiceGrpc.getBatchLookupMethod;
import static ai.recollect.v1.CacheServiceGrpc.getGetEntryMethod;
import static ai.recollect.v1.CacheServiceGrpc.getGetStatsMethod;
import static ai.recollect.v1.CacheServiceGrpc.getInvalidateMethod;
import static ai.recollect.v1.CacheServiceGrpc.getListEntriesMethod;
import static ai.recollect.v1.CacheServiceGrpc.getLookupMethod;
import static ai.recollect.v1.CacheServiceGrpc.getReportFeedbackMethod;
import static ai.recollect.v1.CacheServiceGrpc.getStoreMethod;

import ai.recollect.v1.BatchLookupRequest;
import ai.recollect.v1.BatchLookupResponse;
import ai.recollect.v1.CacheEntry;
import ai.recollect.v1.GetEntryRequest;
import ai.recollect.v1.GetEntryResponse;
import ai.recollect.v1.GetStatsRequest;
import ai.recollect.v1.GetStatsResponse;
import ai.recollect.v1.InvalidateRequest;
import ai.recollect.v1.InvalidateResponse;
import ai.recollect.v1.ListEntriesRequest;
import ai.recollect.v1.ListEntriesResponse;
import ai.recollect.v1.LookupRequest;
import ai.recollect.v1.LookupResponse;
import ai.recollect.v1.ReportFeedbackRequest;
import ai.recollect.v1.StoreRequest;
import ai.recollect.v1.StoreResponse;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** The answer cache. A miss is a result, not an error. */
public final class CacheClient {
  private final Calls calls;

  CacheClient(Calls calls) {
    this.calls = calls;
  }

  /** Returns the same with this bound for each call, streams included. */
  public CacheClient withTimeout(Duration timeout) {
    return new CacheClient(calls.within(timeout));
  }

  /** Looks for an answer to a prompt. */
  public LookupResponse lookup(LookupRequest request) {
    return calls.run(getLookupMethod(), request);
  }

  /** Does what {@link #lookup} does, without waiting. */
  public CompletableFuture<LookupResponse> lookupAsync(LookupRequest request) {
    return calls.start(getLookupMethod(), request, response -> response);
  }

  /** Looks for answers to several prompts at once; the results are in their order. */
  public List<LookupResponse> batchLookup(BatchLookupRequest request) {
    return calls.run(getBatchLookupMethod(), withUsers(request)).getResultsList();
  }

  /** Does what {@link #batchLookup} does, without waiting. */
  public CompletableFuture<List<LookupResponse>> batchLookupAsync(BatchLookupRequest request) {
    return calls.start(
        getBatchLookupMethod(), withUsers(request), BatchLookupResponse::getResultsList);
  }

  /** Stores the answer to a prompt. */
  public CacheEntry store(StoreRequest request) {
    return calls.run(getStoreMethod(), request).getEntry();
  }

  /** Does what {@link #store} does, without waiting. */
  public CompletableFuture<CacheEntry> storeAsync(StoreRequest request) {
    return calls.start(getStoreMethod(), request, StoreResponse::getEntry);
  }

  /** Removes the entries that the selector names and returns how many they were. */
  public long invalidate(InvalidateRequest request) {
    return calls.run(getInvalidateMethod(), request).getCount();
  }

  /** Does what {@link #invalidate} does, without waiting. */
  public CompletableFuture<Long> invalidateAsync(InvalidateRequest request) {
    return calls.start(getInvalidateMethod(), request, InvalidateResponse::getCount);
  }

  /** Says that a served answer was right or wrong. */
  public void reportFeedback(ReportFeedbackRequest request) {
    calls.run(getReportFeedbackMethod(), request);
  }

  /** Does what {@link #reportFeedback} does, without waiting. */
  public CompletableFuture<Void> reportFeedbackAsync(ReportFeedbackRequest request) {
    return calls.start(getReportFeedbackMethod(), request, response -> null);
  }

  /** Returns hits, misses, savings and observed errors. */
  public GetStatsResponse getStats(GetStatsRequest request) {
    return calls.run(getGetStatsMethod(), request);
  }

  /** Does what {@link #getStats} does, without waiting. */
  public CompletableFuture<GetStatsResponse> getStatsAsync(GetStatsRequest request) {
    return calls.start(getGetStatsMethod(), request, response -> response);
  }

  /** Lists the entries of a scope, newest first, over all pages. */
  public Listing<CacheEntry> listEntries(ListEntriesRequest request) {
    return calls.list(
        getListEntriesMethod(),
        request,
        ListEntriesResponse::getEntriesList,
        ListEntriesResponse::getNextPageToken);
  }

  /** Returns an entry. */
  public CacheEntry getEntry(GetEntryRequest request) {
    return calls.run(getGetEntryMethod(), request).getEntry();
  }

  /** Does what {@link #getEntry} does, without waiting. */
  public CompletableFuture<CacheEntry> getEntryAsync(GetEntryRequest request) {
    return calls.start(getGetEntryMethod(), request, GetEntryResponse::getEntry);
  }

  /** Lookups are of the batch's user where they leave it empty. */
  private BatchLookupRequest withUsers(BatchLookupRequest request) {
    BatchLookupRequest.Builder made = calls.prepared(request).toBuilder();
    for (LookupRequest.Builder lookup : made.getLookupsBuilderList()) {
      if (lookup.getUserId().isEmpty()) {
        lookup.setUserId(made.getUserId());
      }
    }
    return made.build();
  }
}
