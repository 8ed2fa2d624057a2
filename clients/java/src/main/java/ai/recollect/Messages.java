// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import ai.recollect.v1.ContentPart;
import ai.recollect.v1.NewFact;
import ai.recollect.v1.NewMessage;
import ai.recollect.v1.Role;
import ai.recollect.v1.ToolResult;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** Makes messages and facts of text, and text of messages. */
public final class Messages {
  private Messages() {}

  /** Returns a part that is text. */
  public static ContentPart text(String text) {
    return ContentPart.newBuilder().setText(text).build();
  }

  /** Returns a message of the user. */
  public static NewMessage user(String text) {
    return message(Role.ROLE_USER, text(text));
  }

  /** Returns a message of the model. */
  public static NewMessage assistant(String text) {
    return message(Role.ROLE_ASSISTANT, text(text));
  }

  /** Returns instructions of the application. */
  public static NewMessage system(String text) {
    return message(Role.ROLE_SYSTEM, text(text));
  }

  /** Returns a tool's answer to the call {@code callId}. */
  public static NewMessage toolResult(String callId, String text) {
    ToolResult result = ToolResult.newBuilder().setCallId(callId).setText(text).build();
    return message(Role.ROLE_TOOL, ContentPart.newBuilder().setToolResult(result).build());
  }

  /** Returns facts to remember, with defaults but for their texts. */
  public static List<NewFact> facts(String... texts) {
    return Stream.of(texts).map(text -> NewFact.newBuilder().setText(text).build()).toList();
  }

  /** Returns the text of parts, joined. */
  public static String textOf(List<ContentPart> parts) {
    return parts.stream().map(ContentPart::getText).collect(Collectors.joining());
  }

  private static NewMessage message(Role role, ContentPart part) {
    return NewMessage.newBuilder().setRole(role).addParts(part).build();
  }
}
