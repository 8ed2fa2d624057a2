// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;

/** A call that sends a stream, no faster than it is taken, and is answered once. */
final class Upload<Q, R> extends ClientCall.Listener<R> {
  private final ClientCall<Q, R> call;
  private R response;
  private StatusRuntimeException failed;
  private boolean closed;

  Upload(ClientCall<Q, R> call) {
    this.call = call;
  }

  R run(Iterator<Q> requests) {
    call.start(this, new Metadata());
    call.request(1);
    boolean done = false;
    try {
      while (ready() && requests.hasNext()) {
        call.sendMessage(requests.next());
      }
      call.halfClose();
      R answer = answer();
      done = true;
      return answer;
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw Status.CANCELLED
          .withDescription("the thread was interrupted")
          .withCause(e)
          .asRuntimeException();
    } finally {
      if (!done) {
        call.cancel("the upload was given up", null);
      }
    }
  }

  @Override
  public synchronized void onReady() {
    notifyAll();
  }

  @Override
  public synchronized void onMessage(R message) {
    response = message;
  }

  @Override
  public synchronized void onClose(Status status, Metadata trailers) {
    closed = true;
    failed = status.isOk() ? null : status.asRuntimeException(trailers);
    notifyAll();
  }

  /** Waits until more can be sent; returns whether the server still wants it. */
  private synchronized boolean ready() throws InterruptedException {
    while (!call.isReady() && !closed) {
      wait();
    }
    return !closed;
  }

  private synchronized R answer() throws InterruptedException {
    while (!closed) {
      wait();
    }
    if (failed != null) {
      throw failed;
    }
    return response;
  }
}
