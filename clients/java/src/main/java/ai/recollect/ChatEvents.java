// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import ai.recollect.v1.ChatEvent;
import ai.recollect.v1.ChatServiceGrpc;
import ai.recollect.v1.ResumeChatRequest;
import ai.recollect.v1.ResumeChatResponse;
import ai.recollect.v1.StreamChatRequest;
import ai.recollect.v1.StreamChatResponse;
import io.grpc.CallOptions;
import java.util.Iterator;

/**
 * The events of a turn, which a stream that broke resumes after the last one seen. Before the first
 * event the stream itself is begun again, with the same request id.
 */
final class ChatEvents implements RecollectStream.Source<ChatEvent> {
  private final Calls calls;
  private final StreamChatRequest request;
  private final ResumeChatRequest.Builder seen;
  private final boolean bounded;

  private ChatEvents(Calls calls, StreamChatRequest request, ResumeChatRequest.Builder seen) {
    this.calls = calls;
    this.request = request;
    this.seen = seen;
    this.bounded = calls.bounded();
  }

  /** Events of a turn that a message begins. */
  static ChatEvents of(Calls calls, StreamChatRequest request) {
    StreamChatRequest made = calls.prepared(request);
    return new ChatEvents(calls, made, ResumeChatRequest.newBuilder().setUserId(made.getUserId()));
  }

  /** Events of a turn that has begun. */
  static ChatEvents after(Calls calls, ResumeChatRequest request) {
    return new ChatEvents(calls, null, calls.prepared(request).toBuilder());
  }

  @Override
  public Iterator<ChatEvent> begin(CallOptions options) {
    if (request != null && seen.getTurnId().isEmpty()) {
      return calls.begin(
          ChatServiceGrpc.getStreamChatMethod(), options, request, StreamChatResponse::getEvent);
    }
    return calls.begin(
        ChatServiceGrpc.getResumeChatMethod(), options, seen.build(), ResumeChatResponse::getEvent);
  }

  @Override
  public void seen(ChatEvent event) {
    if (event.hasStarted()) {
      seen.setTurnId(event.getStarted().getTurnId()).setAttempt(event.getStarted().getAttempt());
    }
    seen.setAfterSequence(event.getSequence());
  }

  @Override
  public boolean goesOn(RecollectException failed, boolean begun, Retries retries) {
    return Retries.lost(failed) && !seen.getTurnId().isEmpty()
        ? retries.goOn(bounded)
        : !begun && !retries.exhausted();
  }
}
