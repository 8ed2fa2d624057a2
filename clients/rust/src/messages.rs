// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! Short ways to make the messages that are made most often.

use crate::v1::chat_delta::Content;
use crate::v1::{
    ChatEvent, ContentPart, NewFact, NewMessage, Role, ToolResult, chat_event, content_part,
};

impl ContentPart {
    /// Returns a part of a message or of an answer that is text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { kind: Some(content_part::Kind::Text(text.into())) }
    }
}

impl NewMessage {
    /// Returns a message of the user.
    pub fn user(text: impl Into<String>) -> Self {
        Self::of(Role::User, ContentPart::text(text))
    }

    /// Returns a message of the model.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::of(Role::Assistant, ContentPart::text(text))
    }

    /// Returns instructions of the application.
    pub fn system(text: impl Into<String>) -> Self {
        Self::of(Role::System, ContentPart::text(text))
    }

    /// Returns a tool's answer to the call `call_id`.
    pub fn tool_result(call_id: impl Into<String>, text: impl Into<String>) -> Self {
        let result =
            ToolResult { call_id: call_id.into(), text: text.into(), ..ToolResult::default() };
        Self::of(Role::Tool, ContentPart { kind: Some(content_part::Kind::ToolResult(result)) })
    }

    fn of(role: Role, part: ContentPart) -> Self {
        Self { role: role.into(), parts: vec![part], ..Self::default() }
    }
}

impl NewFact {
    /// Returns a fact to remember, with defaults but for its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

impl ChatEvent {
    /// Returns the text that it adds to the reply; empty unless it is a delta of text.
    pub fn text(&self) -> &str {
        match &self.kind {
            Some(chat_event::Kind::Delta(delta)) => match &delta.content {
                Some(Content::Text(text)) => text,
                _ => "",
            },
            _ => "",
        }
    }
}

/// Returns the text of parts, joined.
pub fn text_of(parts: &[ContentPart]) -> String {
    let texts = parts.iter().filter_map(|part| match &part.kind {
        Some(content_part::Kind::Text(text)) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}
