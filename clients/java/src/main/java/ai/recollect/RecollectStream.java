// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import io.grpc.CallOptions;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * What a call streams, one item after the other, as they come. It is for one thread at a time, and
 * over when it was iterated once.
 *
 * <p>Close it, best by {@code try (var stream = ...)}: that ends the call if it still runs. Any
 * thread may close it; one that waits for an item then gets {@link RecollectException.Cancelled}.
 *
 * @param <T> what is streamed
 */
public final class RecollectStream<T> implements Iterator<T>, Iterable<T>, AutoCloseable {
  private final Calls calls;
  private final Source<T> source;
  private final CallOptions options;
  private final Context.CancellableContext context = Context.current().withCancellation();
  private final CountDownLatch cancelled = new CountDownLatch(1);
  private final Retries retries = Retries.ofStreams();
  private Iterator<T> items;
  private T next;
  private boolean ended;

  /** Where the items come from, which knows how to go on. */
  interface Source<T> {
    /** Begins a call, after the last item seen if there was one. */
    Iterator<T> begin(CallOptions options);

    /** Notes an item. */
    void seen(T item);

    /** Returns whether to begin again after a failure. */
    boolean goesOn(RecollectException failed, Retries retries);
  }

  RecollectStream(Calls calls, Source<T> source) {
    this.calls = calls;
    this.source = source;
    this.options = calls.options();
    context.addListener(ended -> cancelled.countDown(), Runnable::run);
    begin();
  }

  /** Returns whether there is another item; waits for it. */
  @Override
  public boolean hasNext() {
    while (next == null && !ended) {
      try {
        receive();
      } catch (StatusRuntimeException e) {
        RecollectException failed = calls.failure(e);
        if (!source.goesOn(failed, retries)) {
          end();
          throw failed;
        }
        pause();
        begin();
      }
    }
    return next != null;
  }

  /** Returns the next item; waits for it. */
  @Override
  public T next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    T item = next;
    next = null;
    return item;
  }

  /** Returns this. */
  @Override
  public Iterator<T> iterator() {
    return this;
  }

  /** Returns the items as a stream, which closes this when it is closed. */
  public Stream<T> stream() {
    return StreamSupport.stream(spliterator(), false).onClose(this::close);
  }

  /** Ends the call if it still runs. */
  @Override
  public void close() {
    context.cancel(null);
  }

  private void receive() {
    if (items.hasNext()) {
      T item = items.next();
      source.seen(item);
      retries.reset();
      next = item;
    } else {
      end();
    }
  }

  private void begin() {
    Context before = context.attach();
    try {
      items = source.begin(options);
    } finally {
      context.detach(before);
    }
  }

  private void pause() {
    long nanos = retries.pause().toNanos();
    Deadline deadline = options.getDeadline();
    boolean late = deadline != null && deadline.timeRemaining(TimeUnit.NANOSECONDS) <= nanos;
    if (late) {
      nanos = deadline.timeRemaining(TimeUnit.NANOSECONDS);
    }
    try {
      if (cancelled.await(nanos, TimeUnit.NANOSECONDS)) {
        throw ended(Status.CANCELLED.withDescription("the stream was closed"));
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw ended(Status.CANCELLED.withDescription("the thread was interrupted").withCause(e));
    }
    if (late) {
      throw ended(Status.DEADLINE_EXCEEDED.withDescription("the deadline passed"));
    }
  }

  private RecollectException ended(Status status) {
    end();
    return Failure.exception(status, null);
  }

  private void end() {
    ended = true;
    close();
  }
}
