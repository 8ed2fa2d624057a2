// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.TlsChannelCredentials;
import java.time.Duration;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.function.Consumer;
import java.util.function.Supplier;

/**
 * A connection to a Recollect memory server. It may be used by many threads at once.
 *
 * <p>There is a part for each service: {@link #memory}, {@link #cache}, {@link #chat} and {@link
 * #admin}, each with a method for every RPC; those that answer once have one that ends in {@code
 * Async} too. Requests and results are the messages of {@code ai.recollect.v1}. Lists go over all
 * pages by themselves; a {@link RecollectStream} is to be closed.
 *
 * <p>Calls that find the server unavailable are repeated up to four times with growing pauses, but
 * for an import. Writes carry a request id, which the client makes and a repeat reuses, so that a
 * repeat is done once. A watch and a chat stream go on by themselves where they broke off.
 *
 * <p>A call gets a deadline: 30 seconds, 5 minutes for chat, or what {@link Builder#timeout} and
 * {@link Builder#chatTimeout} say; a watch, an export and an import get none. Each part's {@code
 * withTimeout} bounds all of its calls, and a deadline of {@link io.grpc.Context} holds too.
 *
 * <p>A call that fails throws a {@link RecollectException}; one whose thread is interrupted, whose
 * stream is closed by another thread or whose client is closed, {@link
 * RecollectException.Cancelled}.
 */
public final class RecollectClient implements AutoCloseable {
  /** Where {@code make run} serves. */
  public static final String DEFAULT_ADDRESS = "127.0.0.1:50051";

  /** Bounds a call, unless the client or the call says otherwise. */
  public static final Duration DEFAULT_TIMEOUT = Duration.ofSeconds(30);

  /** Bounds a chat call, unless the client or the call says otherwise. */
  public static final Duration DEFAULT_CHAT_TIMEOUT = Duration.ofMinutes(5);

  private final ManagedChannel channel;
  private final MemoryClient memory;
  private final CacheClient cache;
  private final ChatClient chat;
  private final AdminClient admin;

  private RecollectClient(Builder options) {
    channel =
        Connection.open(
            options.address, options.tls, options.insecure, options.tokens, options.configure);
    Calls calls = new Calls(channel, options.userId, options.timeout);
    memory = new MemoryClient(calls, calls.within(null));
    cache = new CacheClient(calls);
    chat = new ChatClient(calls, calls.within(options.chatTimeout));
    Calls administration = new Calls(channel, "", options.timeout);
    admin = new AdminClient(administration, administration.within(null));
  }

  /**
   * Returns a builder of a client.
   *
   * @param address where the server is: {@code HOST:PORT}, or {@code unix:PATH}
   */
  public static Builder builder(String address) {
    return new Builder(address);
  }

  /**
   * Returns a builder with what {@code RECOLLECT_ADDRESS}, {@code RECOLLECT_API_KEY}, {@code
   * RECOLLECT_USER_ID} and {@code RECOLLECT_TLS} say.
   */
  public static Builder builderFromEnvironment() {
    return builderFrom(System.getenv());
  }

  static Builder builderFrom(Map<String, String> environment) {
    String address = environment.getOrDefault("RECOLLECT_ADDRESS", "");
    Builder builder = new Builder(address.isEmpty() ? DEFAULT_ADDRESS : address);
    builder.userId(environment.getOrDefault("RECOLLECT_USER_ID", ""));
    String key = environment.getOrDefault("RECOLLECT_API_KEY", "");
    if (!key.isEmpty()) {
      builder.apiKey(key);
    }
    String tls = environment.getOrDefault("RECOLLECT_TLS", "").toLowerCase(Locale.ROOT);
    return Set.of("1", "true", "yes").contains(tls) ? builder.tls() : builder;
  }

  /** Returns conversation memory: sessions, messages, facts, recall. */
  public MemoryClient memory() {
    return memory;
  }

  /** Returns the answer cache. */
  public CacheClient cache() {
    return cache;
  }

  /** Returns chat with memory and cache. */
  public ChatClient chat() {
    return chat;
  }

  /** Returns administration: keys, jobs and the server itself. */
  public AdminClient admin() {
    return admin;
  }

  /**
   * Returns the connection, for stubs of one's own; it carries the client's credential, but does
   * not repeat calls.
   */
  public Channel channel() {
    return channel;
  }

  /** Ends all calls and closes the connection. */
  @Override
  public void close() {
    channel.shutdownNow();
  }

  /** Choices made when a client is made. */
  public static final class Builder {
    private final String address;
    private String userId = "";
    private Supplier<String> tokens;
    private ChannelCredentials tls;
    private boolean insecure;
    private Duration timeout = DEFAULT_TIMEOUT;
    private Duration chatTimeout = DEFAULT_CHAT_TIMEOUT;
    private Consumer<ManagedChannelBuilder<?>> configure = channel -> {};

    private Builder(String address) {
      this.address = Objects.requireNonNull(address, "address");
    }

    /**
     * Sets whose memory it is where a request leaves {@code user_id} empty. Default: none; the
     * server refuses such a request.
     */
    public Builder userId(String userId) {
      this.userId = Objects.requireNonNull(userId, "userId");
      return this;
    }

    /** Sends an API key with every call. */
    public Builder apiKey(String key) {
      Objects.requireNonNull(key, "key");
      return tokenSource(() -> key);
    }

    /**
     * Sends what the source returns with every call, as a bearer token. It is asked before each try
     * of a call, by many threads, so it should keep what it got until it expires.
     */
    public Builder tokenSource(Supplier<String> source) {
      this.tokens = Objects.requireNonNull(source, "source");
      return this;
    }

    /** Encrypts, and trusts the authorities that Java trusts. Default: plain text. */
    public Builder tls() {
      return tls(TlsChannelCredentials.create());
    }

    /**
     * Encrypts, and trusts and proves what {@link TlsChannelCredentials} say, as in {@code
     * TlsChannelCredentials.newBuilder().trustManager(new File("roots.pem")).build()}.
     */
    public Builder tls(ChannelCredentials credentials) {
      if (!(credentials instanceof TlsChannelCredentials)) {
        throw new IllegalArgumentException("credentials must be TlsChannelCredentials");
      }
      this.tls = credentials;
      return this;
    }

    /** Allows a credential to cross the network in plain text, on a network that is trusted. */
    public Builder insecure() {
      this.insecure = true;
      return this;
    }

    /** Bounds calls. Default: {@link #DEFAULT_TIMEOUT}. */
    public Builder timeout(Duration timeout) {
      this.timeout = Calls.positive(timeout);
      return this;
    }

    /** Bounds chat calls. Default: {@link #DEFAULT_CHAT_TIMEOUT}. */
    public Builder chatTimeout(Duration timeout) {
      this.chatTimeout = Calls.positive(timeout);
      return this;
    }

    /** Sets more of gRPC's channel, such as interceptors that trace. */
    public Builder configure(Consumer<ManagedChannelBuilder<?>> configure) {
      this.configure = this.configure.andThen(configure);
      return this;
    }

    /**
     * Returns a client. It connects when the first call is made.
     *
     * @throws IllegalArgumentException if the address is none
     * @throws IllegalStateException if a credential would cross the network in plain text
     */
    public RecollectClient build() {
      return new RecollectClient(this);
    }
  }
}
