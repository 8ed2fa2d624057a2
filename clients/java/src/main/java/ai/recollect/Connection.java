// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import static java.util.concurrent.TimeUnit.MINUTES;
import static java.util.concurrent.TimeUnit.NANOSECONDS;
import static java.util.concurrent.TimeUnit.SECONDS;

import io.grpc.CallCredentials;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ConnectivityState;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.function.Consumer;
import java.util.function.Supplier;
import java.util.regex.Pattern;

/** Makes channels. */
final class Connection {
  private static final Pattern LOCAL =
      Pattern.compile("unix:.*|unix-abstract:.*|(localhost|\\[::1]|127(\\.\\d{1,3}){3})(:\\d+)?");
  private static final int METADATA_BYTES = 1 << 20;

  private final ManagedChannel channel;
  private final Retries retries = new Retries();

  private Connection(ManagedChannel channel) {
    this.channel = channel;
  }

  static ManagedChannel open(
      String address,
      ChannelCredentials tls,
      boolean insecure,
      Supplier<String> tokens,
      Consumer<ManagedChannelBuilder<?>> configure) {
    if (tokens != null && tls == null && !insecure && !LOCAL.matcher(address).matches()) {
      throw new IllegalStateException(
          "a credential would cross the network to "
              + address
              + " in plain text: use tls(), or insecure() if the network is trusted");
    }
    ChannelCredentials transport = tls == null ? InsecureChannelCredentials.create() : tls;
    ManagedChannelBuilder<?> builder =
        Grpc.newChannelBuilder(address, transport)
            // Its own repeats cannot tell a call that was cancelled for a reason from one that a
            // server did not begin; Calls and RecollectStream have ours.
            .disableRetry()
            .maxInboundMessageSize(Integer.MAX_VALUE)
            .maxInboundMetadataSize(METADATA_BYTES)
            .keepAliveTime(1, MINUTES)
            .keepAliveTimeout(20, SECONDS);
    if (tokens != null) {
      builder.intercept(new Bearer(tokens));
    }
    configure.accept(builder);
    ManagedChannel channel = builder.build();
    new Connection(channel).reconnect();
    return channel;
  }

  /**
   * Makes the channel connect again soon whenever it cannot: gRPC's own pauses, 1 s growing to 2
   * min, leave a server that is back unused for long.
   */
  private void reconnect() {
    ConnectivityState state = channel.getState(false);
    switch (state) {
      case SHUTDOWN -> {}
      case TRANSIENT_FAILURE -> {
        Executor later = CompletableFuture.delayedExecutor(retries.pause(), NANOSECONDS);
        later.execute(
            () -> {
              channel.resetConnectBackoff();
              reconnect();
            });
      }
      default -> {
        if (state == ConnectivityState.READY) {
          retries.reset();
        }
        channel.notifyWhenStateChanged(state, this::reconnect);
      }
    }
  }

  /** Puts a token into the metadata of each try of a call. */
  private static final class Bearer extends CallCredentials implements ClientInterceptor {
    private static final Metadata.Key<String> AUTHORIZATION =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final Supplier<String> source;

    Bearer(Supplier<String> source) {
      this.source = source;
    }

    @Override
    public <Q, R> ClientCall<Q, R> interceptCall(
        MethodDescriptor<Q, R> method, CallOptions options, Channel next) {
      return next.newCall(method, options.withCallCredentials(this));
    }

    @Override
    public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
      executor.execute(() -> apply(applier));
    }

    private void apply(MetadataApplier applier) {
      try {
        String token = source.get();
        if (token == null || token.isEmpty()) {
          throw new IllegalStateException("the token source returned no token");
        }
        Metadata metadata = new Metadata();
        metadata.put(AUTHORIZATION, "Bearer " + token);
        applier.apply(metadata);
      } catch (RuntimeException e) {
        applier.fail(Status.UNAUTHENTICATED.withDescription(e.getMessage()).withCause(e));
      }
    }
  }
}
