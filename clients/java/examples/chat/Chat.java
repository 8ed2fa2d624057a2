// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

import ai.recollect.Messages;
import ai.recollect.RecollectClient;
import ai.recollect.v1.ChatEvent;
import ai.recollect.v1.CreateSessionRequest;
import ai.recollect.v1.StreamChatRequest;
import java.util.Scanner;

/** A small chat in the terminal that remembers: a line in, a reply streamed out. */
public final class Chat {
  private Chat() {}

  /** Chats until the input ends. */
  public static void main(String[] arguments) {
    try (var client = RecollectClient.builderFromEnvironment().userId("ada").build();
        var lines = new Scanner(System.in)) {
      var session =
          client
              .memory()
              .createSession(CreateSessionRequest.newBuilder().setTitle("A chat").build());
      for (System.out.print("> "); lines.hasNextLine(); System.out.print("> ")) {
        String line = lines.nextLine();
        if (!line.isEmpty()) {
          say(client, session.getSessionId(), line);
        }
      }
      System.out.println();
    }
  }

  private static void say(RecollectClient client, String sessionId, String text) {
    var request =
        StreamChatRequest.newBuilder()
            .setSessionId(sessionId)
            .setMessage(Messages.user(text))
            .build();
    try (var events = client.chat().stream(request)) {
      for (ChatEvent event : events) {
        System.out.print(event.getDelta().getText());
        System.out.flush();
        if (event.getDone().getTurn().getCache().getHit()) {
          System.out.print(" (from the cache)");
        }
      }
    }
    System.out.println();
  }
}
