// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect.conformance;

import ai.recollect.RecollectClient;
import ai.recollect.RecollectException;
import ai.recollect.RecollectStream;
import ai.recollect.v1.GetServerInfoRequest;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.TlsChannelCredentials;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** The Java client's runner; tests/conformance/README.md has the protocol. */
public final class Runner {
  /** The methods that have another name in Java than in the contract. */
  private static final Map<String, String> NAMES =
      Map.of("Chat", "send", "StreamChat", "stream", "ResumeChat", "resume");

  private static final Gson GSON = new GsonBuilder().serializeNulls().create();

  private final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
  private final Map<String, RecollectClient> clients = new HashMap<>();
  private final Map<Integer, Thread> calls = new HashMap<>();

  private Runner() {}

  /** Executes what stdin says until it ends. */
  public static void main(String[] arguments) throws IOException {
    warmUp();
    Runner runner = new Runner();
    var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      runner.execute(JsonParser.parseString(line).getAsJsonObject());
    }
    System.exit(0);
  }

  /** Makes a call: a JVM's first takes longer than the deadlines of some scenarios. */
  private static void warmUp() throws IOException {
    Server server =
        Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create()).build().start();
    try (var client = RecollectClient.builder("127.0.0.1:" + server.getPort()).build()) {
      client.admin().getServerInfo(GetServerInfoRequest.getDefaultInstance());
    } catch (RecollectException.Unimplemented expected) {
      // It serves nothing.
    } finally {
      server.shutdownNow();
    }
  }

  private void execute(JsonObject step) {
    int id = step.get("id").getAsInt();
    String name = step.has("client") ? step.get("client").getAsString() : "";
    try {
      switch (step.get("do").getAsString()) {
        case "open" -> clients.put(name, open(step.getAsJsonObject("options")));
        case "close" -> clients.get(name).close();
        case "cancel" -> calls.get(step.get("call").getAsInt()).interrupt();
        default -> {
          Thread call = new Thread(() -> call(id, clients.get(name), step));
          call.setDaemon(true);
          calls.put(id, call);
          call.start();
          return;
        }
      }
      say(id, "value", null);
    } catch (RuntimeException refused) {
      say(id, "error", error(refused));
    }
  }

  private static RecollectClient open(JsonObject options) {
    var builder = RecollectClient.builder(options.get("address").getAsString());
    if (options.has("user_id")) {
      builder.userId(options.get("user_id").getAsString());
    }
    if (options.has("api_key")) {
      builder.apiKey(options.get("api_key").getAsString());
    }
    if (options.has("timeout")) {
      builder.timeout(seconds(options.get("timeout")));
    }
    if (options.has("tls_roots")) {
      try {
        var roots = new File(options.get("tls_roots").getAsString());
        builder.tls(TlsChannelCredentials.newBuilder().trustManager(roots).build());
      } catch (IOException e) {
        throw new IllegalStateException(e);
      }
    } else if (options.has("tls") && options.get("tls").getAsBoolean()) {
      builder.tls();
    }
    return builder.build();
  }

  private void call(int id, RecollectClient client, JsonObject step) {
    String[] names = step.get("method").getAsString().split("/");
    try {
      Object part = part(client, names[0]);
      if (step.has("timeout")) {
        Method within = part.getClass().getMethod("withTimeout", Duration.class);
        part = within.invoke(part, seconds(step.get("timeout")));
      }
      String lower = names[1].substring(0, 1).toLowerCase() + names[1].substring(1);
      String name = NAMES.getOrDefault(names[1], lower);
      Method method =
          Stream.of(part.getClass().getMethods())
              .filter(found -> found.getName().equals(name))
              .findFirst()
              .orElseThrow();
      Object result = method.invoke(part, arguments(method, step.get("request")));
      if (result instanceof Iterable<?> items && !(result instanceof List<?>)) {
        items(id, items, step.has("take") ? step.get("take").getAsInt() : -1);
      } else {
        boolean whole = method.getReturnType().getSimpleName().endsWith("Response");
        say(id, whole ? "result" : "value", json(result));
      }
    } catch (InvocationTargetException e) {
      say(id, "error", error(e.getCause()));
    } catch (ReflectiveOperationException | IOException | RuntimeException e) {
      say(id, "error", error(e));
    }
  }

  private static Object part(RecollectClient client, String service) {
    return switch (service) {
      case "MemoryService" -> client.memory();
      case "CacheService" -> client.cache();
      case "ChatService" -> client.chat();
      default -> client.admin();
    };
  }

  /** Returns the request, or what importUser takes. */
  private static Object[] arguments(Method method, JsonElement request)
      throws ReflectiveOperationException, InvalidProtocolBufferException {
    Class<?> type = method.getParameterTypes()[0];
    if (type == String.class) {
      List<String> records = new ArrayList<>();
      for (JsonElement upload : request.getAsJsonArray()) {
        records.add(upload.getAsJsonObject().get("record_json").getAsString());
      }
      JsonObject first = request.getAsJsonArray().get(0).getAsJsonObject();
      return new Object[] {first.get("user_id").getAsString(), records};
    }
    Message.Builder builder = (Message.Builder) type.getMethod("newBuilder").invoke(null);
    JsonFormat.parser().merge(GSON.toJson(request), builder);
    return new Object[] {builder.build()};
  }

  private void items(int id, Iterable<?> items, int most) throws InvalidProtocolBufferException {
    int seen = 0;
    for (Object item : items) {
      say(id, "item", json(item));
      if (++seen == most) {
        break;
      }
    }
    if (items instanceof RecollectStream<?> stream) {
      stream.close();
    }
    say(id, "value", null);
  }

  private static JsonElement json(Object value) throws InvalidProtocolBufferException {
    if (value instanceof Message message) {
      return JsonParser.parseString(
          JsonFormat.printer().preservingProtoFieldNames().print(message));
    }
    if (value instanceof List<?> list) {
      JsonArray all = new JsonArray();
      for (Object one : list) {
        all.add(json(one));
      }
      return all;
    }
    return GSON.toJsonTree(value);
  }

  private static JsonObject error(Throwable thrown) {
    JsonObject error = new JsonObject();
    if (!(thrown instanceof RecollectException failed)) {
      error.addProperty("code", "CLIENT");
      error.addProperty("message", thrown.toString());
      return error;
    }
    error.addProperty("code", failed.code().name());
    error.addProperty("reason", failed.reason());
    error.addProperty("message", failed.description());
    error.add("field_violations", GSON.toJsonTree(failed.fieldViolations()));
    error.addProperty(
        "retry_after", failed.retryAfter().map(Duration::toMillis).orElse(0L) / 1000.0);
    error.add("metadata", GSON.toJsonTree(failed.metadata()));
    error.addProperty("call_id", failed.callId());
    return error;
  }

  private static Duration seconds(JsonElement value) {
    return Duration.ofNanos((long) (value.getAsDouble() * 1e9));
  }

  private synchronized void say(int id, String kind, JsonElement what) {
    JsonObject answer = new JsonObject();
    answer.addProperty("id", id);
    answer.add(kind, what);
    out.println(GSON.toJson(answer));
  }
}
