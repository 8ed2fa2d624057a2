// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import ai.recollect.v1.AdminServiceGrpc;
import ai.recollect.v1.ErrorReason;
import ai.recollect.v1.MemoryServiceGrpc;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;

/** Which calls are repeated, and how long to wait before. */
final class Retries {
  static final int MAX_TRIES = 5;

  /** What gRPC keeps of a request to repeat it; its own 1 MiB would leave out large appends. */
  static final long BUFFER_BYTES = 8L << 20;

  private static final Duration FIRST_PAUSE = Duration.ofMillis(100);
  private static final Duration LONGEST_PAUSE = Duration.ofSeconds(2);

  /**
   * The calls that gRPC does not repeat. Every other one may be: a write either carries a request
   * id or comes to the same when repeated. But the records of an import are a stream, and Watch
   * repeats itself: it knows where to go on.
   */
  static final List<MethodDescriptor<?, ?>> ONCE =
      List.of(MemoryServiceGrpc.getWatchMethod(), AdminServiceGrpc.getImportUserMethod());

  private final Duration longest;
  private int pauses;
  private Duration next;

  private Retries(Duration longest) {
    this.longest = longest;
    reset();
  }

  /** Counts the tries to go on with a stream that broke. */
  static Retries ofStreams() {
    return new Retries(LONGEST_PAUSE);
  }

  /**
   * Counts the tries to connect. Their longest pause is less than the pauses of a call's repeats
   * together, so that the repeats do not all fall into it.
   */
  static Retries ofConnections() {
    return new Retries(Duration.ofSeconds(1));
  }

  /** Returns what tells gRPC which calls to repeat. */
  static Map<String, ?> serviceConfig() {
    Map<String, ?> policy =
        Map.of(
            "maxAttempts", (double) MAX_TRIES,
            "initialBackoff", seconds(FIRST_PAUSE),
            "maxBackoff", seconds(LONGEST_PAUSE),
            "backoffMultiplier", 2.0,
            "retryableStatusCodes", List.of("UNAVAILABLE"));
    List<Map<String, ?>> once = new ArrayList<>();
    for (MethodDescriptor<?, ?> method : ONCE) {
      once.add(Map.of("service", method.getServiceName(), "method", method.getBareMethodName()));
    }
    return Map.of(
        "methodConfig",
        List.of(Map.of("name", List.of(Map.of()), "retryPolicy", policy), Map.of("name", once)));
  }

  /** Returns whether the connection broke or the server is going away: not that a part is down. */
  static boolean lost(RecollectException failed) {
    return failed instanceof RecollectException.Unavailable
        && (failed.reason().isEmpty() || failed.is(ErrorReason.ERROR_REASON_SHUTTING_DOWN));
  }

  /** Says that something came: the next pause is the first again. */
  void reset() {
    pauses = 0;
    next = FIRST_PAUSE;
  }

  /** Returns whether one more try would be one too many, if none brings anything. */
  boolean exhausted() {
    return pauses + 1 >= MAX_TRIES;
  }

  /** Returns how long to wait before the next try. */
  Duration pause() {
    Duration pause = next;
    pauses++;
    next = pause.multipliedBy(2).compareTo(longest) < 0 ? pause.multipliedBy(2) : longest;
    // Many clients of one server must not come back at the same moment.
    return Duration.ofNanos(
        (long) (pause.toNanos() * ThreadLocalRandom.current().nextDouble(0.5, 1)));
  }

  private static String seconds(Duration duration) {
    return duration.toMillis() / 1000.0 + "s";
  }
}
