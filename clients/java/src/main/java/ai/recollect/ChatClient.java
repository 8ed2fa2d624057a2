// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import static ai.recollect.v1.ChatServiceGrpc.getCancelTurnMethod;
import static ai.recollect.v1.ChatServiceGrpc.getChatMethod;
import static ai.recollect.v1.ChatServiceGrpc.getGetTurnMethod;

import ai.recollect.v1.CancelTurnRequest;
import ai.recollect.v1.CancelTurnResponse;
import ai.recollect.v1.ChatEvent;
import ai.recollect.v1.ChatRequest;
import ai.recollect.v1.ChatResponse;
import ai.recollect.v1.GetTurnRequest;
import ai.recollect.v1.GetTurnResponse;
import ai.recollect.v1.ResumeChatRequest;
import ai.recollect.v1.StreamChatRequest;
import ai.recollect.v1.Turn;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;

/** Chat with memory and cache. */
public final class ChatClient {
  private final Calls calls;
  private final Calls turns;

  ChatClient(Calls calls, Calls turns) {
    this.calls = calls;
    this.turns = turns;
  }

  /** Returns the same with this bound for each call, streams included. */
  public ChatClient withTimeout(Duration timeout) {
    return new ChatClient(calls.within(timeout), turns.within(timeout));
  }

  /** Sends a message and returns the turn with its reply. */
  public Turn send(ChatRequest request) {
    return turns.run(getChatMethod(), request).getTurn();
  }

  /** Does what {@link #send} does, without waiting. */
  public CompletableFuture<Turn> sendAsync(ChatRequest request) {
    return turns.start(getChatMethod(), request, ChatResponse::getTurn);
  }

  /**
   * Sends a message and streams what happens; the last event is {@code done} or {@code
   * interrupted}.
   *
   * <p>When the connection breaks, the events go on after the last one seen, without gap or repeat,
   * as long as the deadline allows; without one for a minute without an event. A second {@code
   * started} means that the reply starts over.
   */
  public RecollectStream<ChatEvent> stream(StreamChatRequest request) {
    return turns.open(ChatEvents.of(turns, request));
  }

  /** Streams the events of a turn after the last one seen, as {@link #stream} does. */
  public RecollectStream<ChatEvent> resume(ResumeChatRequest request) {
    return turns.open(ChatEvents.after(turns, request));
  }

  /** Returns a turn. */
  public Turn getTurn(GetTurnRequest request) {
    return calls.run(getGetTurnMethod(), request).getTurn();
  }

  /** Does what {@link #getTurn} does, without waiting. */
  public CompletableFuture<Turn> getTurnAsync(GetTurnRequest request) {
    return calls.start(getGetTurnMethod(), request, GetTurnResponse::getTurn);
  }

  /** Ends a running turn; what was said is kept. */
  public Turn cancelTurn(CancelTurnRequest request) {
    return calls.run(getCancelTurnMethod(), request).getTurn();
  }

  /** Does what {@link #cancelTurn} does, without waiting. */
  public CompletableFuture<Turn> cancelTurnAsync(CancelTurnRequest request) {
    return calls.start(getCancelTurnMethod(), request, CancelTurnResponse::getTurn);
  }
}
