// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! A small chat in the terminal that remembers: a line in, a reply streamed out.

use std::error::Error;
use std::io::{Write, stdout};

use recollect_client::v1::chat_event::Kind;
use recollect_client::{Builder, Client, v1};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Builder::from_env().user_id("ada").build()?;
    let created = v1::CreateSessionRequest { title: "A chat".into(), ..Default::default() };
    let session = client.memory().create_session(created).await?;
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        print!("> ");
        stdout().flush()?;
        let Some(line) = lines.next_line().await? else { break };
        if !line.is_empty() {
            say(&client, &session.session_id, line).await?;
        }
    }
    println!();
    Ok(())
}

async fn say(client: &Client, session_id: &str, text: String) -> Result<(), Box<dyn Error>> {
    let mut events = client.chat().stream(v1::StreamChatRequest {
        session_id: session_id.into(),
        message: Some(v1::NewMessage::user(text)),
        ..Default::default()
    });
    while let Some(event) = events.next().await {
        let event = event?;
        print!("{}", event.text());
        stdout().flush()?;
        if let Some(Kind::Done(done)) = event.kind
            && done.turn.and_then(|turn| turn.cache).is_some_and(|cache| cache.hit)
        {
            print!(" (from the cache)");
        }
    }
    println!();
    Ok(())
}
