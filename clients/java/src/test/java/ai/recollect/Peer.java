// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import ai.recollect.v1.AdminServiceGrpc;
import ai.recollect.v1.AppendMessagesRequest;
import ai.recollect.v1.AppendMessagesResponse;
import ai.recollect.v1.ChatEvent;
import ai.recollect.v1.ChatServiceGrpc;
import ai.recollect.v1.ImportUserRequest;
import ai.recollect.v1.ImportUserResponse;
import ai.recollect.v1.MemoryServiceGrpc;
import ai.recollect.v1.StreamChatRequest;
import ai.recollect.v1.StreamChatResponse;
import ai.recollect.v1.WatchRequest;
import ai.recollect.v1.WatchResponse;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;

/** A server that does what a test asks for by the session's id. */
final class Peer implements AutoCloseable {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  final Queue<AppendMessagesRequest> appends = new ConcurrentLinkedQueue<>();
  final Queue<String> credentials = new ConcurrentLinkedQueue<>();

  /** A call that is held has arrived. */
  final CountDownLatch began = new CountDownLatch(1);

  /** A call that is held, or a stream, was cancelled. */
  final CountDownLatch ended = new CountDownLatch(1);

  private final Server server;

  Peer() throws IOException {
    server =
        Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
            .addService(new Memory())
            .addService(new Chat())
            .addService(new Admin())
            .intercept(new Credentials())
            .build()
            .start();
  }

  String address() {
    return "127.0.0.1:" + server.getPort();
  }

  RecollectClient.Builder client() {
    return RecollectClient.builder(address()).userId("ada");
  }

  @Override
  public void close() {
    server.shutdownNow();
  }

  private void hold() {
    Context.current().addListener(cancelled -> ended.countDown(), Runnable::run);
    began.countDown();
  }

  private final class Memory extends MemoryServiceGrpc.MemoryServiceImplBase {
    @Override
    public void appendMessages(
        AppendMessagesRequest request, StreamObserver<AppendMessagesResponse> responses) {
      appends.add(request);
      if (request.getSessionId().equals("held")) {
        hold();
      } else if (request.getSessionId().equals("flaky") && appends.size() < 3) {
        responses.onError(Status.UNAVAILABLE.asRuntimeException());
      } else {
        responses.onNext(AppendMessagesResponse.newBuilder().setSessionRevision(7).build());
        responses.onCompleted();
      }
    }

    @Override
    public void watch(WatchRequest request, StreamObserver<WatchResponse> responses) {
      hold();
      responses.onNext(WatchResponse.newBuilder().setResumeToken("t").build());
    }
  }

  private final class Chat extends ChatServiceGrpc.ChatServiceImplBase {
    @Override
    public void streamChat(
        StreamChatRequest request, StreamObserver<StreamChatResponse> responses) {
      hold();
      for (long sequence = 1; sequence <= 3; sequence++) {
        var event = ChatEvent.newBuilder().setSequence(sequence);
        responses.onNext(StreamChatResponse.newBuilder().setEvent(event).build());
      }
    }
  }

  private static final class Admin extends AdminServiceGrpc.AdminServiceImplBase {
    @Override
    public StreamObserver<ImportUserRequest> importUser(
        StreamObserver<ImportUserResponse> responses) {
      return new StreamObserver<>() {
        private long records;

        @Override
        public void onNext(ImportUserRequest upload) {
          if (upload.getRecordJson().equals("bad")) {
            responses.onError(Status.INVALID_ARGUMENT.asRuntimeException());
          }
          records++;
        }

        @Override
        public void onError(Throwable failed) {}

        @Override
        public void onCompleted() {
          responses.onNext(ImportUserResponse.newBuilder().setRecords(records).build());
          responses.onCompleted();
        }
      };
    }
  }

  private final class Credentials implements ServerInterceptor {
    @Override
    public <Q, R> ServerCall.Listener<Q> interceptCall(
        ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next) {
      credentials.addAll(
          headers.containsKey(AUTHORIZATION) ? List.of(headers.get(AUTHORIZATION)) : List.of());
      return next.startCall(call, headers);
    }
  }
}
