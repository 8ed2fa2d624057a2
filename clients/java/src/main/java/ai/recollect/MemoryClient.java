// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import static ai.recollect.v1.MemoryServiceGrpc.getAppendMessagesMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getClearSessionMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getCompactSessionMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getCreateSessionMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getDeleteSessionMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getExtractFactsMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getForgetFactMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getGetContextMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getGetEpisodeMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getGetFactHistoryMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getGetFactMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getGetSessionMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getListEpisodesMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getListFactsMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getListMessagesMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getListSessionsMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getRecallMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getRememberMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getUpdateFactMethod;
import static ai.recollect.v1.MemoryServiceGrpc.getUpdateSessionMethod;

import ai.recollect.v1.AppendMessagesRequest;
import ai.recollect.v1.AppendMessagesResponse;
import ai.recollect.v1.ClearSessionRequest;
import ai.recollect.v1.ClearSessionResponse;
import ai.recollect.v1.CompactSessionRequest;
import ai.recollect.v1.CompactSessionResponse;
import ai.recollect.v1.CreateSessionRequest;
import ai.recollect.v1.CreateSessionResponse;
import ai.recollect.v1.DeleteSessionRequest;
import ai.recollect.v1.Episode;
import ai.recollect.v1.ExtractFactsRequest;
import ai.recollect.v1.ExtractFactsResponse;
import ai.recollect.v1.Fact;
import ai.recollect.v1.ForgetFactRequest;
import ai.recollect.v1.GetContextRequest;
import ai.recollect.v1.GetContextResponse;
import ai.recollect.v1.GetEpisodeRequest;
import ai.recollect.v1.GetEpisodeResponse;
import ai.recollect.v1.GetFactHistoryRequest;
import ai.recollect.v1.GetFactHistoryResponse;
import ai.recollect.v1.GetFactRequest;
import ai.recollect.v1.GetFactResponse;
import ai.recollect.v1.GetSessionRequest;
import ai.recollect.v1.GetSessionResponse;
import ai.recollect.v1.ListEpisodesRequest;
import ai.recollect.v1.ListEpisodesResponse;
import ai.recollect.v1.ListFactsRequest;
import ai.recollect.v1.ListFactsResponse;
import ai.recollect.v1.ListMessagesRequest;
import ai.recollect.v1.ListMessagesResponse;
import ai.recollect.v1.ListSessionsRequest;
import ai.recollect.v1.ListSessionsResponse;
import ai.recollect.v1.Message;
import ai.recollect.v1.RecallRequest;
import ai.recollect.v1.RecallResponse;
import ai.recollect.v1.RememberRequest;
import ai.recollect.v1.RememberResponse;
import ai.recollect.v1.Session;
import ai.recollect.v1.UpdateFactRequest;
import ai.recollect.v1.UpdateFactResponse;
import ai.recollect.v1.UpdateSessionRequest;
import ai.recollect.v1.UpdateSessionResponse;
import ai.recollect.v1.WatchRequest;
import ai.recollect.v1.WatchResponse;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** Conversation memory: sessions and their messages, facts, recall, and changes as they happen. */
public final class MemoryClient {
  private final Calls calls;
  private final Calls watches;

  MemoryClient(Calls calls, Calls watches) {
    this.calls = calls;
    this.watches = watches;
  }

  /** Returns the same with this bound for each call, streams included. */
  public MemoryClient withTimeout(Duration timeout) {
    return new MemoryClient(calls.within(timeout), watches.within(timeout));
  }

  /** Creates a session; without an id the server makes one. */
  public Session createSession(CreateSessionRequest request) {
    return calls.run(getCreateSessionMethod(), request).getSession();
  }

  /** Does what {@link #createSession} does, without waiting. */
  public CompletableFuture<Session> createSessionAsync(CreateSessionRequest request) {
    return calls.start(getCreateSessionMethod(), request, CreateSessionResponse::getSession);
  }

  /** Returns a session. */
  public Session getSession(GetSessionRequest request) {
    return calls.run(getGetSessionMethod(), request).getSession();
  }

  /** Does what {@link #getSession} does, without waiting. */
  public CompletableFuture<Session> getSessionAsync(GetSessionRequest request) {
    return calls.start(getGetSessionMethod(), request, GetSessionResponse::getSession);
  }

  /** Lists a user's sessions, most recently updated first, over all pages. */
  public Listing<Session> listSessions(ListSessionsRequest request) {
    return calls.list(
        getListSessionsMethod(),
        request,
        ListSessionsResponse::getSessionsList,
        ListSessionsResponse::getNextPageToken);
  }

  /** Changes the fields that the mask names. */
  public Session updateSession(UpdateSessionRequest request) {
    return calls.run(getUpdateSessionMethod(), request).getSession();
  }

  /** Does what {@link #updateSession} does, without waiting. */
  public CompletableFuture<Session> updateSessionAsync(UpdateSessionRequest request) {
    return calls.start(getUpdateSessionMethod(), request, UpdateSessionResponse::getSession);
  }

  /** Starts the conversation anew; the transcript stays. */
  public Session clearSession(ClearSessionRequest request) {
    return calls.run(getClearSessionMethod(), request).getSession();
  }

  /** Does what {@link #clearSession} does, without waiting. */
  public CompletableFuture<Session> clearSessionAsync(ClearSessionRequest request) {
    return calls.start(getClearSessionMethod(), request, ClearSessionResponse::getSession);
  }

  /** Deletes a session and what was drawn from it alone. */
  public void deleteSession(DeleteSessionRequest request) {
    calls.run(getDeleteSessionMethod(), request);
  }

  /** Does what {@link #deleteSession} does, without waiting. */
  public CompletableFuture<Void> deleteSessionAsync(DeleteSessionRequest request) {
    return calls.start(getDeleteSessionMethod(), request, response -> null);
  }

  /** Appends messages, all or none; they are durable when it returns. */
  public AppendMessagesResponse appendMessages(AppendMessagesRequest request) {
    return calls.run(getAppendMessagesMethod(), request);
  }

  /** Does what {@link #appendMessages} does, without waiting. */
  public CompletableFuture<AppendMessagesResponse> appendMessagesAsync(
      AppendMessagesRequest request) {
    return calls.start(getAppendMessagesMethod(), request, response -> response);
  }

  /** Lists a session's messages over all pages. */
  public Listing<Message> listMessages(ListMessagesRequest request) {
    return calls.list(
        getListMessagesMethod(),
        request,
        ListMessagesResponse::getMessagesList,
        ListMessagesResponse::getNextPageToken);
  }

  /** Returns what to put into a model's prompt. */
  public GetContextResponse getContext(GetContextRequest request) {
    return calls.run(getGetContextMethod(), request);
  }

  /** Does what {@link #getContext} does, without waiting. */
  public CompletableFuture<GetContextResponse> getContextAsync(GetContextRequest request) {
    return calls.start(getGetContextMethod(), request, response -> response);
  }

  /** Stores facts, all or none; they are durable when it returns. */
  public RememberResponse remember(RememberRequest request) {
    return calls.run(getRememberMethod(), request);
  }

  /** Does what {@link #remember} does, without waiting. */
  public CompletableFuture<RememberResponse> rememberAsync(RememberRequest request) {
    return calls.start(getRememberMethod(), request, response -> response);
  }

  /** Finds facts, turns and episodes by meaning and words. */
  public RecallResponse recall(RecallRequest request) {
    return calls.run(getRecallMethod(), request);
  }

  /** Does what {@link #recall} does, without waiting. */
  public CompletableFuture<RecallResponse> recallAsync(RecallRequest request) {
    return calls.start(getRecallMethod(), request, response -> response);
  }

  /** Returns the current version of a fact. */
  public Fact getFact(GetFactRequest request) {
    return calls.run(getGetFactMethod(), request).getFact();
  }

  /** Does what {@link #getFact} does, without waiting. */
  public CompletableFuture<Fact> getFactAsync(GetFactRequest request) {
    return calls.start(getGetFactMethod(), request, GetFactResponse::getFact);
  }

  /** Lists a user's facts, most recently recorded first, over all pages. */
  public Listing<Fact> listFacts(ListFactsRequest request) {
    return calls.list(
        getListFactsMethod(),
        request,
        ListFactsResponse::getFactsList,
        ListFactsResponse::getNextPageToken);
  }

  /** Writes the next version of a fact. */
  public Fact updateFact(UpdateFactRequest request) {
    return calls.run(getUpdateFactMethod(), request).getFact();
  }

  /** Does what {@link #updateFact} does, without waiting. */
  public CompletableFuture<Fact> updateFactAsync(UpdateFactRequest request) {
    return calls.start(getUpdateFactMethod(), request, UpdateFactResponse::getFact);
  }

  /** Deletes a fact with its whole history. */
  public void forgetFact(ForgetFactRequest request) {
    calls.run(getForgetFactMethod(), request);
  }

  /** Does what {@link #forgetFact} does, without waiting. */
  public CompletableFuture<Void> forgetFactAsync(ForgetFactRequest request) {
    return calls.start(getForgetFactMethod(), request, response -> null);
  }

  /** Returns every version of a fact, oldest first. */
  public List<Fact> getFactHistory(GetFactHistoryRequest request) {
    return calls.run(getGetFactHistoryMethod(), request).getVersionsList();
  }

  /** Does what {@link #getFactHistory} does, without waiting. */
  public CompletableFuture<List<Fact>> getFactHistoryAsync(GetFactHistoryRequest request) {
    return calls.start(getGetFactHistoryMethod(), request, GetFactHistoryResponse::getVersionsList);
  }

  /** Extracts facts from a session's messages not yet read, now. */
  public ExtractFactsResponse extractFacts(ExtractFactsRequest request) {
    return calls.run(getExtractFactsMethod(), request);
  }

  /** Does what {@link #extractFacts} does, without waiting. */
  public CompletableFuture<ExtractFactsResponse> extractFactsAsync(ExtractFactsRequest request) {
    return calls.start(getExtractFactsMethod(), request, response -> response);
  }

  /** Brings a session's rolling summary up to date, now. */
  public Session compactSession(CompactSessionRequest request) {
    return calls.run(getCompactSessionMethod(), request).getSession();
  }

  /** Does what {@link #compactSession} does, without waiting. */
  public CompletableFuture<Session> compactSessionAsync(CompactSessionRequest request) {
    return calls.start(getCompactSessionMethod(), request, CompactSessionResponse::getSession);
  }

  /** Lists a user's episodes, newest first, over all pages. */
  public Listing<Episode> listEpisodes(ListEpisodesRequest request) {
    return calls.list(
        getListEpisodesMethod(),
        request,
        ListEpisodesResponse::getEpisodesList,
        ListEpisodesResponse::getNextPageToken);
  }

  /** Returns an episode. */
  public Episode getEpisode(GetEpisodeRequest request) {
    return calls.run(getGetEpisodeMethod(), request).getEpisode();
  }

  /** Does what {@link #getEpisode} does, without waiting. */
  public CompletableFuture<Episode> getEpisodeAsync(GetEpisodeRequest request) {
    return calls.start(getGetEpisodeMethod(), request, GetEpisodeResponse::getEpisode);
  }

  /**
   * Streams the changes of a user or of a session, in order, until it is closed.
   *
   * <p>Without a {@code resume_token} the first response comes at once and has no subject: whatever
   * is written after it will be streamed. While the server cannot be reached it is asked again, and
   * the changes go on where they broke off, without gap or repeat. Keep the last {@code
   * resume_token} to go on after a crash of yours.
   */
  public RecollectStream<WatchResponse> watch(WatchRequest request) {
    return watches.open(new Changes(watches, request));
  }
}
