// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import ai.recollect.v1.ErrorReason;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Deadline;
import io.grpc.Status;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * Which calls are repeated, and how long to wait before. Every one may be but an import, whose
 * records are a stream: a write either carries a request id or comes to the same when repeated.
 */
final class Retries {
  static final int MAX_TRIES = 5;

  private static final Duration FIRST_PAUSE = Duration.ofMillis(100);
  private static final Duration LONGEST_PAUSE = Duration.ofSeconds(1);

  /** How long a chat stream without a deadline, once broken, is resumed without an event. */
  private static final Duration RESUME_TIME = Duration.ofMinutes(1);

  private int pauses;
  private Duration next = FIRST_PAUSE;
  private Deadline givesUp;

  /**
   * Returns whether another server, or the same later, may do what this one did not. A server that
   * shuts down cancels the calls that it has not begun, and gives no reason.
   */
  static boolean unavailable(RecollectException failed) {
    return failed instanceof RecollectException.Unavailable
        || failed instanceof RecollectException.Cancelled && failed.reason().isEmpty();
  }

  /** Returns whether the connection broke or the server is going away: not that a part is down. */
  static boolean lost(RecollectException failed) {
    return unavailable(failed)
        && (failed.reason().isEmpty() || failed.is(ErrorReason.ERROR_REASON_SHUTTING_DOWN));
  }

  /** Says that something came: the next pause is the first again. */
  void reset() {
    pauses = 0;
    next = FIRST_PAUSE;
    givesUp = null;
  }

  /** Returns whether one more try would be one too many, if none brings anything. */
  boolean exhausted() {
    return pauses + 1 >= MAX_TRIES;
  }

  /**
   * Returns whether a stream that broke is tried again: as long as its deadline lets it, if it is
   * bounded by one. Such tries do not count.
   */
  boolean goOn(boolean bounded) {
    if (givesUp == null) {
      givesUp = Deadline.after(RESUME_TIME.toNanos(), TimeUnit.NANOSECONDS);
    }
    pauses = 0;
    return bounded || !givesUp.isExpired();
  }

  /** Returns how many nanoseconds to wait before the next try. */
  long pause() {
    Duration pause = next;
    pauses++;
    next =
        pause.multipliedBy(2).compareTo(LONGEST_PAUSE) < 0 ? pause.multipliedBy(2) : LONGEST_PAUSE;
    // Many clients of one server must not come back at the same moment.
    return (long) (pause.toNanos() * ThreadLocalRandom.current().nextDouble(0.5, 1));
  }

  /** Does what {@link #pause()} does, up to a deadline; null is none. A try after it ends by it. */
  long pause(Deadline deadline) {
    long nanos = pause();
    return deadline == null
        ? nanos
        : Math.max(0, Math.min(nanos, deadline.timeRemaining(TimeUnit.NANOSECONDS)));
  }

  /**
   * Waits before the next try, up to a deadline; null is none.
   *
   * @throws RecollectException if the context or an interrupt ends the call first
   */
  void await(Deadline deadline, Context context) {
    CountDownLatch ended = new CountDownLatch(1);
    Context.CancellationListener listener = cancelled -> ended.countDown();
    context.addListener(listener, Runnable::run);
    try {
      if (ended.await(pause(deadline), TimeUnit.NANOSECONDS)) {
        throw Failure.exception(Contexts.statusFromCancelled(context), null);
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      Status interrupted = Status.CANCELLED.withDescription("the thread was interrupted");
      throw Failure.exception(interrupted.withCause(e), null);
    } finally {
      context.removeListener(listener);
    }
  }
}
