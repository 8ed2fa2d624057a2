// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.recollect.v1.AppendMessagesRequest;
import ai.recollect.v1.MemoryServiceGrpc;
import ai.recollect.v1.MemoryServiceGrpc.MemoryServiceBlockingStub;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import java.io.IOException;
import java.util.Arrays;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/**
 * Compares the client with the stub given the same to send, in turns, so that both meet the same
 * load. The server answers at once, which a real one does not.
 */
class OverheadTest {
  private static final int WARM_UP = 2000;
  private static final int CALLS = 2000;
  private static final double MOST = 1.10;

  @Test
  void theClientTakesNotMuchLongerThanItsStub() throws IOException {
    var peer = new Peer();
    var channel =
        Grpc.newChannelBuilder(peer.address(), InsecureChannelCredentials.create()).build();
    try (peer;
        var client = peer.client().build()) {
      var stub = MemoryServiceGrpc.newBlockingStub(channel);
      long[] byClient = new long[WARM_UP + CALLS];
      long[] byStub = new long[WARM_UP + CALLS];
      for (int i = 0; i < WARM_UP + CALLS; i++) {
        byClient[i] = nanos(() -> client.memory().appendMessages(append().build()));
        byStub[i] = nanos(() -> append(stub));
        peer.appends.clear();
      }
      double ratio = (double) median(byClient) / median(byStub);
      System.out.printf("client/stub %.3f of %d ns%n", ratio, median(byStub));
      assertTrue(ratio <= MOST, "client/stub " + ratio);
    } finally {
      channel.shutdownNow();
    }
  }

  private static AppendMessagesRequest.Builder append() {
    return AppendMessagesRequest.newBuilder()
        .setSessionId("s")
        .addMessages(Messages.user("hello there"))
        .addMessages(Messages.assistant("hello to you"));
  }

  private static void append(MemoryServiceBlockingStub stub) {
    stub.withDeadlineAfter(RecollectClient.DEFAULT_TIMEOUT.toSeconds(), TimeUnit.SECONDS)
        .appendMessages(
            append().setUserId("ada").setRequestId(UUID.randomUUID().toString()).build());
  }

  private static long nanos(Runnable call) {
    long began = System.nanoTime();
    call.run();
    return System.nanoTime() - began;
  }

  private static long median(long[] nanos) {
    long[] sorted = Arrays.copyOfRange(nanos, WARM_UP, nanos.length);
    Arrays.sort(sorted);
    return sorted[sorted.length / 2];
  }
}
