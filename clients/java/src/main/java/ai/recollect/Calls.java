// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import java.nio.channels.ClosedChannelException;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.Supplier;

/** Runs the calls of a part of the client. */
final class Calls {
  private final ManagedChannel channel;
  private final String userId;
  private final Duration timeout;

  /**
   * @param userId where a request leaves its user empty; "" for none
   * @param timeout bounds each call; null for no bound
   */
  Calls(ManagedChannel channel, String userId, Duration timeout) {
    this.channel = channel;
    this.userId = userId;
    this.timeout = timeout;
  }

  static Duration positive(Duration timeout) {
    if (timeout.isNegative() || timeout.isZero()) {
      throw new IllegalArgumentException("timeout must be positive, not " + timeout);
    }
    return timeout;
  }

  /** Returns the same with another bound, null for none. */
  Calls within(Duration timeout) {
    return new Calls(channel, userId, timeout == null ? null : positive(timeout));
  }

  /** Runs a method that answers once, and waits for its answer. */
  <Q extends Message, R> R run(MethodDescriptor<Q, R> method, Q request) {
    Q made = prepared(request);
    CallOptions options = options();
    Retries retries = new Retries();
    while (true) {
      try {
        return ClientCalls.blockingUnaryCall(channel, method, options, made);
      } catch (StatusRuntimeException e) {
        RecollectException failed = failure(e);
        if (retries.exhausted() || !unavailable(failed, Context.current())) {
          throw failed;
        }
      }
      retries.await(options.getDeadline(), Context.current());
    }
  }

  /** Runs a method that answers once; cancelling the future ends the call. */
  <Q extends Message, R, T> CompletableFuture<T> start(
      MethodDescriptor<Q, R> method, Q request, Function<R, T> result) {
    CallOptions options = options();
    Q made = prepared(request);
    return new AsyncCall<>(this, () -> channel.newCall(method, options), options, made, result)
        .start();
  }

  /** Lists the items of all pages from the request's on. */
  <Q extends Message, R, T> Listing<T> list(
      MethodDescriptor<Q, R> method,
      Q request,
      Function<R, List<T>> items,
      Function<R, String> nextToken) {
    FieldDescriptor token = request.getDescriptorForType().findFieldByName("page_token");
    return new Listing<>(
        after -> {
          Q page = after.isEmpty() ? request : with(request, token, after);
          R response = run(method, page);
          return new Listing.Page<>(items.apply(response), nextToken.apply(response));
        });
  }

  /** Opens a stream that ends where it breaks. */
  <Q extends Message, R, T> RecollectStream<T> open(
      MethodDescriptor<Q, R> method, Q request, Function<R, T> item) {
    Q made = prepared(request);
    return open(
        new RecollectStream.Source<>() {
          @Override
          public Iterator<T> begin(CallOptions options) {
            return Calls.this.begin(method, options, made, item);
          }

          @Override
          public void seen(T item) {}

          @Override
          public boolean goesOn(RecollectException failed, boolean begun, Retries retries) {
            return !begun && !retries.exhausted();
          }
        });
  }

  /** Opens a stream that a source begins, and takes up again where it breaks. */
  <T> RecollectStream<T> open(RecollectStream.Source<T> source) {
    return new RecollectStream<>(this, source);
  }

  /** Begins a method that answers with a stream. */
  <Q, R, T> Iterator<T> begin(
      MethodDescriptor<Q, R> method, CallOptions options, Q request, Function<R, T> item) {
    Iterator<R> responses =
        ClientCalls.blockingServerStreamingCall(channel, method, options, request);
    return new Iterator<>() {
      @Override
      public boolean hasNext() {
        return responses.hasNext();
      }

      @Override
      public T next() {
        return item.apply(responses.next());
      }
    };
  }

  /** Runs a method that takes a stream, and waits for its answer. */
  <Q, R> R upload(MethodDescriptor<Q, R> method, Iterator<Q> requests) {
    try {
      return new Upload<>(channel.newCall(method, options())).run(requests);
    } catch (StatusRuntimeException e) {
      throw failure(e);
    }
  }

  /** Returns whether a call that begins now has a deadline. */
  boolean bounded() {
    return timeout != null || Context.current().getDeadline() != null;
  }

  /** Returns options with the deadline of a call that begins now. */
  CallOptions options() {
    return timeout == null
        ? CallOptions.DEFAULT
        : CallOptions.DEFAULT.withDeadline(Deadline.after(timeout.toNanos(), TimeUnit.NANOSECONDS));
  }

  /**
   * Returns a request with a user and a request id, where it has such fields and leaves them empty.
   */
  <Q extends Message> Q prepared(Q request) {
    Q made = userId.isEmpty() ? request : filled(request, "user_id", () -> userId);
    return filled(made, "request_id", () -> UUID.randomUUID().toString());
  }

  /** Returns what to throw of what gRPC threw. */
  RecollectException failure(Throwable failed) {
    Status status = Status.fromThrowable(failed);
    if (status.getCause() instanceof ClosedChannelException) {
      // The connection broke while the call was begun: gRPC has UNKNOWN for it.
      status = Status.UNAVAILABLE.withDescription("the connection broke");
    }
    if (status.getCode() == Status.Code.UNAVAILABLE) {
      if (channel.isShutdown()) {
        status = Status.CANCELLED.withDescription("the client was closed");
      } else if (Thread.currentThread().isInterrupted()) {
        status = Status.CANCELLED.withDescription("the thread was interrupted");
      }
    }
    return Failure.exception(status, Status.trailersFromThrowable(failed));
  }

  /** Returns whether a call may be made again, which neither its caller nor a closing ended. */
  boolean unavailable(RecollectException failed, Context context) {
    boolean ended =
        channel.isShutdown() || context.isCancelled() || Thread.currentThread().isInterrupted();
    return !ended && Retries.unavailable(failed);
  }

  private static <Q extends Message> Q filled(Q request, String name, Supplier<String> value) {
    FieldDescriptor field = request.getDescriptorForType().findFieldByName(name);
    return field == null || !request.getField(field).equals("")
        ? request
        : with(request, field, value.get());
  }

  private static <Q extends Message> Q with(Q request, FieldDescriptor field, String value) {
    @SuppressWarnings("unchecked") // A builder builds what it was made of.
    Q made = (Q) request.toBuilder().setField(field, value).build();
    return made;
  }
}
