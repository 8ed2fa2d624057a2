// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import static ai.recollect.RecollectClientTest.awaited;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.recollect.v1.ChatEvent;
import ai.recollect.v1.StreamChatRequest;
import ai.recollect.v1.WatchRequest;
import java.io.IOException;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class RecollectStreamTest {
  private Peer peer;
  private RecollectClient client;

  @BeforeEach
  void serve() throws IOException {
    peer = new Peer();
    client = peer.client().build();
  }

  @AfterEach
  void stop() {
    client.close();
    peer.close();
  }

  private RecollectStream<ChatEvent> stream() {
    return client.chat().stream(StreamChatRequest.getDefaultInstance());
  }

  @Test
  void leavingAStreamEndsItOnTheServer() {
    try (var events = stream()) {
      for (ChatEvent event : events) {
        if (event.getSequence() == 2) {
          break;
        }
      }
    }
    assertTrue(awaited(peer.ended));
  }

  @Test
  void aStreamOfItemsClosesItsCall() {
    try (Stream<ChatEvent> events = stream().stream()) {
      assertEquals(List.of(1L, 2L), events.map(ChatEvent::getSequence).limit(2).toList());
    }
    assertTrue(awaited(peer.ended));
  }

  @Test
  void oneWhoWaitsIsToldThatAnotherThreadClosedTheStream() {
    var events = stream();
    var waiting = CompletableFuture.runAsync(() -> events.forEachRemaining(event -> {}));
    assertTrue(awaited(peer.began));
    events.close();
    var failed = assertThrows(CompletionException.class, waiting::join);
    assertTrue(failed.getCause() instanceof RecollectException.Cancelled);
    assertFalse(events.hasNext());
    assertThrows(NoSuchElementException.class, events::next);
  }

  @Test
  void anInterruptEndsAStreamAndIsKept() {
    try (var events = stream()) {
      assertEquals(1, events.next().getSequence());
      Thread.currentThread().interrupt();
      assertThrows(RecollectException.Cancelled.class, () -> events.forEachRemaining(event -> {}));
      assertTrue(Thread.interrupted());
    }
    assertTrue(awaited(peer.ended));
  }

  @Test
  void aWatchWaitsForTheServerUntilItIsClosed() {
    var changes = client.memory().watch(WatchRequest.getDefaultInstance());
    assertEquals("t", changes.next().getResumeToken());
    peer.close();
    var waiting = CompletableFuture.runAsync(changes::hasNext);
    changes.close();
    var failed = assertThrows(CompletionException.class, waiting::join);
    assertTrue(failed.getCause() instanceof RecollectException.Cancelled);
  }

  @Test
  void aWatchEndsWhenTheClientIsClosed() {
    var changes = client.memory().watch(WatchRequest.getDefaultInstance());
    assertEquals("t", changes.next().getResumeToken());
    client.close();
    assertThrows(RecollectException.Cancelled.class, changes::hasNext);
  }

  @Test
  void aListAsksForAPageWhenItComesToIt() {
    var asked = new AtomicInteger();
    var listing =
        new Listing<>(
            token -> {
              int number = asked.incrementAndGet();
              String next = number < 3 ? "page" + number : "";
              assertEquals(number == 1 ? "" : "page" + (number - 1), token);
              return new Listing.Page<>(number == 2 ? List.of() : List.of(number), next);
            });
    var items = listing.iterator();
    assertEquals(1, items.next());
    assertEquals(1, asked.get());
    assertEquals(3, items.next());
    assertFalse(items.hasNext());
    assertEquals(3, asked.get());
    assertThrows(NoSuchElementException.class, items::next);
  }
}
