// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.recollect.v1.AdminServiceGrpc;
import ai.recollect.v1.AppendMessagesRequest;
import ai.recollect.v1.CacheServiceGrpc;
import ai.recollect.v1.ChatServiceGrpc;
import ai.recollect.v1.MemoryServiceGrpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.MethodDescriptor;
import io.grpc.ServiceDescriptor;
import java.io.IOException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.time.Duration;
import java.util.Arrays;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Timeout(60)
class RecollectClientTest {
  private Peer peer;

  @BeforeEach
  void serve() throws IOException {
    peer = new Peer();
  }

  @AfterEach
  void stop() {
    peer.close();
  }

  private static AppendMessagesRequest append(String sessionId) {
    return AppendMessagesRequest.newBuilder()
        .setSessionId(sessionId)
        .addMessages(Messages.user("x"))
        .build();
  }

  @Test
  void eachCallHasTheUserAndARequestIdThatRepeatsKeep() {
    try (var client = peer.client().build()) {
      assertEquals(7, client.memory().appendMessages(append("flaky")).getSessionRevision());
      client.memory().appendMessages(append("flaky"));
    }
    assertTrue(peer.appends.stream().allMatch(sent -> sent.getUserId().equals("ada")));
    List<String> ids = peer.appends.stream().map(AppendMessagesRequest::getRequestId).toList();
    assertEquals(4, ids.size());
    assertEquals(1, Set.copyOf(ids.subList(0, 3)).size());
    assertNotEquals(ids.get(2), ids.get(3));
  }

  @Test
  void whatARequestSaysItselfIsKept() {
    var request = append("s").toBuilder().setUserId("bob").setRequestId("mine").build();
    try (var client = peer.client().build()) {
      client.memory().appendMessages(request);
    }
    assertEquals(request, peer.appends.peek());
  }

  @Test
  void theTokenSourceIsAskedForEachCall() {
    var calls = new AtomicInteger();
    try (var client = peer.client().tokenSource(() -> "t" + calls.incrementAndGet()).build()) {
      client.memory().appendMessages(append("s"));
      client.memory().appendMessagesAsync(append("s")).join();
    }
    assertEquals(List.of("Bearer t1", "Bearer t2"), List.copyOf(peer.credentials));
  }

  @Test
  void aTokenSourceThatFailsFailsTheCall() {
    var broken = new IllegalStateException("no token today");
    try (var client =
        peer.client()
            .tokenSource(
                () -> {
                  throw broken;
                })
            .build()) {
      var failed =
          assertThrows(
              RecollectException.Unauthenticated.class,
              () -> client.memory().appendMessages(append("s")));
      assertTrue(failed.getMessage().contains("no token today"));
      assertEquals(broken, failed.getCause());
    }
    assertTrue(peer.appends.isEmpty());
  }

  @Test
  void anInterruptEndsACall() throws InterruptedException {
    try (var client = peer.client().build()) {
      var caller = Thread.currentThread();
      var interrupter =
          new Thread(
              () -> {
                awaited(peer.began);
                caller.interrupt();
              });
      interrupter.start();
      assertThrows(
          RecollectException.Cancelled.class, () -> client.memory().appendMessages(append("held")));
      assertTrue(Thread.interrupted());
      interrupter.join();
    }
    assertTrue(awaited(peer.ended));
  }

  @Test
  void cancellingAFutureEndsItsCall() {
    try (var client = peer.client().build()) {
      var future = client.memory().appendMessagesAsync(append("held"));
      assertTrue(awaited(peer.began));
      assertTrue(future.cancel(true));
      assertThrows(CancellationException.class, future::join);
      assertTrue(awaited(peer.ended));
    }
  }

  @Test
  void aFutureFailsAsItsCallDoes() {
    try (var client = peer.client().build()) {
      var future =
          client.memory().withTimeout(Duration.ofMillis(50)).appendMessagesAsync(append("held"));
      var failed = assertThrows(CompletionException.class, future::join);
      assertTrue(failed.getCause() instanceof RecollectException.DeadlineExceeded);
    }
  }

  @Test
  void closingAClientEndsItsCallsAndThereAreNoMore() throws InterruptedException {
    var client = peer.client().build();
    var future = client.memory().appendMessagesAsync(append("held"));
    assertTrue(awaited(peer.began));
    client.close();
    var failed = assertThrows(CompletionException.class, future::join);
    assertTrue(failed.getCause() instanceof RecollectException.Cancelled);
    assertThrows(
        RecollectException.Cancelled.class, () -> client.memory().appendMessages(append("s")));
  }

  @Test
  void recordsAreImportedNoFasterThanTheyAreTaken() {
    Iterable<String> many = Collections.nCopies(2000, "x".repeat(10_000));
    try (var client = peer.client().build()) {
      assertEquals(2000, client.admin().importUser("ada", many));
    }
  }

  @Test
  void anImportThatIsRefusedStopsReading() {
    var read = new AtomicInteger();
    Iterator<String> endless =
        Stream.generate(() -> read.incrementAndGet() == 3 ? "bad" : "x".repeat(10_000)).iterator();
    try (var client = peer.client().build()) {
      assertThrows(
          RecollectException.InvalidArgument.class,
          () -> client.admin().importUser("ada", () -> endless));
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"example.com:443", "10.0.0.1:50051", "localhost.evil.com:1", "dns:///x:1", "x"})
  void aCredentialDoesNotCrossTheNetworkInPlainText(String address) {
    var builder = RecollectClient.builder(address).apiKey("k");
    assertThrows(IllegalStateException.class, builder::build);
    builder.insecure().build().close();
    RecollectClient.builder(address).apiKey("k").tls().build().close();
  }

  @ParameterizedTest
  @ValueSource(strings = {"localhost:1", "127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "unix:/tmp/r"})
  void aCredentialMayStayOnThisMachine(String address) {
    RecollectClient.builder(address).apiKey("k").build().close();
  }

  @Test
  void credentialsThatDoNotEncryptAreNoTls() {
    var builder = RecollectClient.builder("example.com:1");
    assertThrows(
        IllegalArgumentException.class, () -> builder.tls(InsecureChannelCredentials.create()));
  }

  @Test
  void aTimeoutIsPositive() {
    var builder = RecollectClient.builder("127.0.0.1:1");
    assertThrows(IllegalArgumentException.class, () -> builder.timeout(Duration.ZERO));
  }

  @Test
  void theEnvironmentIsRead() {
    var environment =
        Map.of(
            "RECOLLECT_ADDRESS", peer.address(),
            "RECOLLECT_API_KEY", "k",
            "RECOLLECT_USER_ID", "bob",
            "RECOLLECT_TLS", "");
    try (var client = RecollectClient.builderFrom(environment).build()) {
      client.memory().appendMessages(append("s"));
    }
    assertEquals("bob", peer.appends.element().getUserId());
    assertEquals(List.of("Bearer k"), List.copyOf(peer.credentials));
    RecollectClient.builderFrom(Map.of("RECOLLECT_ADDRESS", "example.com:1", "RECOLLECT_TLS", "1"))
        .apiKey("k")
        .build()
        .close();
  }

  @Test
  void thereIsAMethodForEveryRpc() {
    Map<ServiceDescriptor, Class<?>> parts =
        Map.of(
            MemoryServiceGrpc.getServiceDescriptor(), MemoryClient.class,
            CacheServiceGrpc.getServiceDescriptor(), CacheClient.class,
            ChatServiceGrpc.getServiceDescriptor(), ChatClient.class,
            AdminServiceGrpc.getServiceDescriptor(), AdminClient.class);
    var renamed = Map.of("chat", "send", "streamChat", "stream", "resumeChat", "resume");
    parts.forEach(
        (service, part) -> {
          var expected = new TreeSet<>(Set.of("withTimeout"));
          for (MethodDescriptor<?, ?> method : service.getMethods()) {
            String bare = method.getBareMethodName();
            String lower = bare.substring(0, 1).toLowerCase() + bare.substring(1);
            String name = renamed.getOrDefault(lower, lower);
            expected.add(name);
            if (method.getType() == MethodDescriptor.MethodType.UNARY && !name.startsWith("list")) {
              expected.add(name + "Async");
            }
          }
          var found =
              Arrays.stream(part.getDeclaredMethods())
                  .filter(method -> Modifier.isPublic(method.getModifiers()))
                  .map(Method::getName)
                  .collect(Collectors.toCollection(TreeSet::new));
          assertEquals(expected, found);
        });
  }

  static boolean awaited(CountDownLatch latch) {
    try {
      return latch.await(30, TimeUnit.SECONDS);
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }
}
