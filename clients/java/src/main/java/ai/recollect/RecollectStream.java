// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import io.grpc.CallOptions;
import io.grpc.Context;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.NoSuchElementException;
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
  private final Retries retries = new Retries();
  private Iterator<T> items;
  private T next;
  private boolean begun;
  private boolean ended;

  /** Where the items come from, which knows how to go on. */
  interface Source<T> {
    /** Begins a call, after the last item seen if there was one. */
    Iterator<T> begin(CallOptions options);

    /** Notes an item. */
    void seen(T item);

    /**
     * Returns whether to begin again when the server was unavailable.
     *
     * @param begun whether the call that failed brought an item
     */
    boolean goesOn(RecollectException failed, boolean begun, Retries retries);
  }

  RecollectStream(Calls calls, Source<T> source) {
    this.calls = calls;
    this.source = source;
    this.options = calls.options();
    begin();
  }

  /** Returns whether there is another item; waits for it. */
  @Override
  public boolean hasNext() {
    while (next == null && !ended) {
      try {
        receive();
      } catch (StatusRuntimeException e) {
        pause(calls.failure(e));
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
      begun = true;
      next = item;
    } else {
      end();
    }
  }

  private void begin() {
    begun = false;
    Context before = context.attach();
    try {
      items = source.begin(options);
    } finally {
      context.detach(before);
    }
  }

  /** Waits before going on after a failure; throws it if the stream does not. */
  private void pause(RecollectException failed) {
    if (!calls.unavailable(failed, context) || !source.goesOn(failed, begun, retries)) {
      end();
      throw failed;
    }
    try {
      retries.await(options.getDeadline(), context);
    } catch (RecollectException ended) {
      end();
      throw ended;
    }
  }

  private void end() {
    ended = true;
    close();
  }
}
