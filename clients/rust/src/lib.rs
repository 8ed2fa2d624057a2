// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! The client of the Recollect memory server.
//!
//! A [`Client`] has a part for each service, [`Client::memory`], [`Client::cache`],
//! [`Client::chat`] and [`Client::admin`], each with a method for every RPC. Requests and results
//! are the messages of [`v1`]. Lists and streams are a [`Stream`]; dropping one, or the future of a
//! call, ends the call.
//!
//! Calls that find the server unavailable are repeated up to four times with growing pauses, but for
//! an import. Writes carry a request id, which the client makes and a repeat reuses, so that a repeat
//! is done once. A watch and a chat stream go on by themselves where they broke off.
//!
//! Every call has a deadline: 30 seconds, 5 minutes for chat, or what [`Builder::timeout`],
//! [`Builder::chat_timeout`] and [`Client::with_timeout`] say; a watch, an export and an import have
//! none but [`Client::with_timeout`]'s.
//!
//! A call that fails returns an [`Error`].
//!
//! ```no_run
//! use recollect_client::{Client, v1};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("127.0.0.1:50051").user_id("ada").build()?;
//! let facts = vec![v1::NewFact::new("Prefers tea")];
//! client.memory().remember(v1::RememberRequest { facts, ..Default::default() }).await?;
//! let mut sessions = client.memory().list_sessions(v1::ListSessionsRequest::default());
//! while let Some(session) = sessions.next().await {
//!     println!("{}", session?.title);
//! }
//! # Ok(())
//! # }
//! ```

mod admin;
mod builder;
mod cache;
mod call;
mod chat;
mod client;
mod connector;
mod credential;
mod error;
mod memory;
mod messages;
mod retry;
mod stream;
mod watch;

pub use admin::Admin;
pub use builder::{BuildError, Builder, DEFAULT_ADDRESS, DEFAULT_CHAT_TIMEOUT, DEFAULT_TIMEOUT};
pub use cache::Cache;
pub use chat::Chat;
pub use client::Client;
pub use error::{Code, Error, FieldViolation, Reason, Result};
pub use memory::Memory;
pub use messages::text_of;
pub use prost_types;
pub use stream::Stream;

/// The messages of the contract, and the stubs that the client is built on.
#[allow(missing_docs)]
pub mod v1 {
    tonic::include_proto!("recollect.v1");
}
