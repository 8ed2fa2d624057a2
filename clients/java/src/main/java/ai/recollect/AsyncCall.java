// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.Supplier;

/** A call that answers once, by a future; cancelling it ends the call. */
final class AsyncCall<Q, R, T> {
  private final Calls calls;
  private final Supplier<ClientCall<Q, R>> tries;
  private final CallOptions options;
  private final Q request;
  private final Function<R, T> result;
  private final Context context = Context.current();
  private final Retries retries = new Retries();
  private final CompletableFuture<T> future = new CompletableFuture<>();

  AsyncCall(
      Calls calls,
      Supplier<ClientCall<Q, R>> tries,
      CallOptions options,
      Q request,
      Function<R, T> result) {
    this.calls = calls;
    this.tries = tries;
    this.options = options;
    this.request = request;
    this.result = result;
  }

  CompletableFuture<T> start() {
    attempt();
    return future;
  }

  private void attempt() {
    ClientCall<Q, R> call = tries.get();
    ClientCalls.asyncUnaryCall(
        call,
        request,
        new StreamObserver<>() {
          private R response;

          @Override
          public void onNext(R value) {
            response = value;
          }

          @Override
          public void onError(Throwable thrown) {
            failed(calls.failure(thrown));
          }

          @Override
          public void onCompleted() {
            future.complete(result.apply(response));
          }
        });
    future.whenComplete(
        (value, failed) -> {
          if (future.isCancelled()) {
            call.cancel("the future was cancelled", null);
          }
        });
  }

  private void failed(RecollectException failed) {
    if (future.isDone()) {
      return;
    }
    if (retries.exhausted() || !calls.unavailable(failed, context)) {
      future.completeExceptionally(failed);
      return;
    }
    long pause = retries.pause(options.getDeadline());
    Executor later = CompletableFuture.delayedExecutor(pause, TimeUnit.NANOSECONDS);
    later.execute(context.wrap(this::attempt));
  }
}
