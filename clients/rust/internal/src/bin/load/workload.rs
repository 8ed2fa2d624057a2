// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! The methods that are called, with the data that each needs.

use std::str::FromStr;

use recollect_client::v1::chat_event::Kind;
use recollect_client::{Client, v1};

use crate::BoxError;
use crate::echo::Echo;

const SESSION: &str = "main";
const WINDOW: usize = 20;
const WORDS: usize = 12;
/// Words of a line of the system prompt that the offline provider quotes: a reply has three lines.
const LINE_WORDS: usize = 130;
const LINES: usize = 3;
const VOCABULARY: [&str; 16] = [
    "river", "window", "garden", "letter", "winter", "market", "engine", "mirror", "harbour",
    "planet", "copper", "violin", "meadow", "ticket", "candle", "bridge",
];

/// What is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Method {
    GetContext,
    AppendMessages,
    LookupExact,
    StreamChat,
    Echo,
}

const METHODS: [(&str, Method); 5] = [
    ("get_context", Method::GetContext),
    ("append_messages", Method::AppendMessages),
    ("lookup_exact", Method::LookupExact),
    ("stream_chat", Method::StreamChat),
    ("echo", Method::Echo),
];

impl Method {
    pub fn name(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = METHODS.iter().find(|(name, _)| *name == text);
        found.map(|(_, method)| *method).ok_or_else(|| format!("no such method: {text}"))
    }
}

/// A caller's method, ready to be called.
pub enum Workload {
    /// Windows of 20 messages.
    GetContext(Client, v1::GetContextRequest),
    /// One message a call.
    AppendMessages(Client),
    /// Answers of the exact tier: every call hits.
    LookupExact(Client, v1::LookupRequest),
    /// Turns of the offline provider, without cache and memory.
    StreamChat(Client, v1::ChatOptions),
    /// GetContext's messages, answered by a bare server.
    Echo(Echo),
}

impl Workload {
    pub async fn prepare(target: &str, client: Client, method: Method) -> Result<Self, BoxError> {
        Ok(match method {
            Method::GetContext => {
                open(&client, 0).await?;
                let messages = (0..WINDOW).map(|_| message()).collect();
                append(&client, messages).await?;
                let options = v1::ContextOptions {
                    profile: v1::ContextProfile::Buffer.into(),
                    ..Default::default()
                };
                let request = v1::GetContextRequest {
                    session_id: SESSION.into(),
                    options: Some(options),
                    ..Default::default()
                };
                Self::GetContext(client, request)
            }
            Method::AppendMessages => {
                open(&client, 0).await?;
                Self::AppendMessages(client)
            }
            Method::LookupExact => {
                let asked = v1::PromptMessage {
                    role: v1::Role::User.into(),
                    parts: vec![v1::ContentPart::text(words(WORDS))],
                };
                let prompt = v1::Prompt {
                    model: "load".into(),
                    messages: vec![asked],
                    ..Default::default()
                };
                let store = v1::StoreRequest {
                    prompt: Some(prompt.clone()),
                    answer: vec![v1::ContentPart::text(words(WORDS))],
                    ..Default::default()
                };
                client.cache().store(store).await?;
                let request = v1::LookupRequest {
                    prompt: Some(prompt),
                    tiers: vec![v1::CacheTier::Exact.into()],
                    ..Default::default()
                };
                Self::LookupExact(client, request)
            }
            Method::StreamChat => {
                open(&client, 2).await?;
                let lines: Vec<_> =
                    (0..LINES).map(|_| format!("- Telescope: {}", words(LINE_WORDS))).collect();
                let options = v1::ChatOptions {
                    system: lines.join("\n"),
                    context: Some(v1::ContextOptions {
                        profile: v1::ContextProfile::Buffer.into(),
                        ..Default::default()
                    }),
                    cache: Some(v1::ChatCacheOptions {
                        mode: v1::CacheMode::Off.into(),
                        ..Default::default()
                    }),
                    ..Default::default()
                };
                Self::StreamChat(client, options)
            }
            Method::Echo => Self::Echo(Echo::prepare(target, answer()).await?),
        })
    }

    /// Makes one call and returns the number of its deltas.
    pub async fn call(&mut self) -> Result<usize, BoxError> {
        match self {
            Self::GetContext(client, request) => {
                let context = client.memory().get_context(request.clone()).await?;
                if context.messages.len() != WINDOW || !context.degradations.is_empty() {
                    return Err("the context is not the window of 20 messages".into());
                }
            }
            Self::AppendMessages(client) => append(client, vec![message()]).await?,
            Self::LookupExact(client, request) => {
                if !client.cache().lookup(request.clone()).await?.hit {
                    return Err("a miss where an answer is stored".into());
                }
            }
            Self::StreamChat(client, options) => return turn(client, options).await,
            Self::Echo(echo) => {
                let request = v1::GetContextRequest {
                    user_id: "load".into(),
                    session_id: SESSION.into(),
                    ..Default::default()
                };
                if echo.call(request).await?.messages.len() != WINDOW {
                    return Err("the echo is not what it was given".into());
                }
            }
        }
        Ok(0)
    }
}

async fn open(client: &Client, window_size: i32) -> Result<(), BoxError> {
    let session =
        v1::CreateSessionRequest { session_id: SESSION.into(), window_size, ..Default::default() };
    client.memory().create_session(session).await?;
    Ok(())
}

async fn append(client: &Client, messages: Vec<v1::NewMessage>) -> Result<(), BoxError> {
    let request =
        v1::AppendMessagesRequest { session_id: SESSION.into(), messages, ..Default::default() };
    client.memory().append_messages(request).await?;
    Ok(())
}

async fn turn(client: &Client, options: &v1::ChatOptions) -> Result<usize, BoxError> {
    let mut events = client.chat().stream(v1::StreamChatRequest {
        session_id: SESSION.into(),
        message: Some(v1::NewMessage::user(format!("What about the telescope? {}", words(4)))),
        options: Some(options.clone()),
        ..Default::default()
    });
    let mut deltas = 0;
    let mut done = false;
    while let Some(event) = events.next().await {
        match event?.kind {
            Some(Kind::Delta(_)) => deltas += 1,
            Some(Kind::Done(_)) => done = true,
            _ => {}
        }
    }
    if deltas == 0 || !done {
        return Err("a stream without a delta, or not done".into());
    }
    Ok(deltas)
}

/// Returns a response like GetContext's.
fn answer() -> v1::GetContextResponse {
    let messages = (0..WINDOW).map(|_| v1::PromptMessage {
        role: v1::Role::User.into(),
        parts: vec![v1::ContentPart::text(words(WORDS))],
    });
    let items = (0..WINDOW).map(|number| v1::ContextItem {
        part: v1::ContextPart::Window.into(),
        item_id: format!("01234567-89ab-7def-8123-{number:012}"),
        session_id: SESSION.into(),
        sequence: number as i64 + 1,
        token_count: 20,
        ..Default::default()
    });
    v1::GetContextResponse {
        messages: messages.collect(),
        items: items.collect(),
        token_count: 400,
        session_revision: 1,
        indexed_revision: 1,
        ..Default::default()
    }
}

fn message() -> v1::NewMessage {
    v1::NewMessage::user(words(WORDS))
}

fn words(count: usize) -> String {
    let chosen: Vec<_> = (0..count).map(|_| fastrand::choice(VOCABULARY).unwrap_or("")).collect();
    chosen.join(" ")
}
