// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! ChatService.

use async_stream::try_stream;
use tokio::time::Instant;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::call::{Caller, method, next, within};
use crate::error::Result;
use crate::retry::Pauses;
use crate::stream::Stream;
use crate::v1::chat_event::Kind;
use crate::v1::chat_service_client::ChatServiceClient;
use crate::v1::{
    CancelTurnRequest, ChatEvent, ChatRequest, GetTurnRequest, ResumeChatRequest,
    ResumeChatResponse, StreamChatRequest, StreamChatResponse, Turn,
};

/// Chat with memory and cache.
#[derive(Clone)]
pub struct Chat {
    caller: Caller,
    stub: ChatServiceClient<Channel>,
}

impl Chat {
    pub(crate) fn new(caller: Caller) -> Self {
        let stub = ChatServiceClient::new(caller.channel.clone());
        Self { caller, stub: stub.max_decoding_message_size(usize::MAX) }
    }

    /// Sends a message and returns the turn with its reply.
    pub async fn send(&self, request: ChatRequest) -> Result<Turn> {
        let request = self.caller.prepared(request);
        let deadline = self.deadline();
        let response = self.caller.call_until(deadline, request, method!(self.chat)).await?;
        Ok(response.turn.unwrap_or_default())
    }

    /// Sends a message and yields what happens; the last event is `done` or `interrupted`.
    ///
    /// When the connection breaks, the events go on after the last one seen, without gap or repeat, as
    /// long as the timeout allows; without one for a minute without an event. A second `started` means that the reply starts over.
    pub fn stream(&self, request: StreamChatRequest) -> Stream<ChatEvent> {
        let request = self.caller.prepared(request);
        let seen = ResumeChatRequest { user_id: request.user_id.clone(), ..Default::default() };
        self.follow(Some(request), seen)
    }

    /// Yields the events of a turn after the last one seen, as [`Chat::stream`] does.
    pub fn resume(&self, request: ResumeChatRequest) -> Stream<ChatEvent> {
        self.follow(None, self.caller.prepared(request))
    }

    /// Returns a turn.
    pub async fn get_turn(&self, request: GetTurnRequest) -> Result<Turn> {
        let response = self.caller.call(request, method!(self.get_turn)).await?;
        Ok(response.turn.unwrap_or_default())
    }

    /// Ends a running turn; what was said is kept.
    pub async fn cancel_turn(&self, request: CancelTurnRequest) -> Result<Turn> {
        let response = self.caller.call(request, method!(self.cancel_turn)).await?;
        Ok(response.turn.unwrap_or_default())
    }

    fn deadline(&self) -> Option<Instant> {
        self.caller.deadline(Some(self.caller.settings.chat_timeout))
    }

    /// Yields the events of a turn. A stream that breaks is resumed after the last event seen.
    /// Before the first event the request is sent again, with the same request id.
    fn follow(
        &self,
        request: Option<StreamChatRequest>,
        mut seen: ResumeChatRequest,
    ) -> Stream<ChatEvent> {
        let chat = self.clone();
        Stream::new(try_stream! {
            let deadline = chat.deadline();
            let mut pauses = Pauses::default();
            let mut events = None;
            loop {
                let event = match &mut events {
                    Some(events) => Events::next(events, deadline).await,
                    None => chat.begin(deadline, request.as_ref(), &seen).await.map(|begun| {
                        events = Some(begun.1);
                        begun.0
                    }),
                };
                match event {
                    Ok(Some(event)) => {
                        note(&mut seen, &event);
                        pauses = Pauses::default();
                        yield event;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        let begun = events.take().is_some();
                        let again = if error.is_lost() && !seen.turn_id.is_empty() {
                            pauses.go_on(deadline)
                        } else {
                            !begun && !pauses.are_used_up() && error.is_unavailable()
                        };
                        if !again {
                            Err(error)?;
                        }
                        within(deadline, pauses.wait()).await?;
                    }
                }
            }
        })
    }

    /// Begins a turn, or goes on with the one that was seen, and returns the first event.
    async fn begin(
        &self,
        deadline: Option<Instant>,
        request: Option<&StreamChatRequest>,
        seen: &ResumeChatRequest,
    ) -> Result<(Option<ChatEvent>, Events)> {
        if let Some(request) = request.filter(|_| seen.turn_id.is_empty()) {
            let begun = self.caller.begin_once(deadline, request, method!(self.stream_chat)).await;
            let (first, events) = begun?;
            Ok((first.and_then(|first| first.event), Events::New(events)))
        } else {
            let begun = self.caller.begin_once(deadline, seen, method!(self.resume_chat)).await;
            let (first, events) = begun?;
            Ok((first.and_then(|first| first.event), Events::Resumed(events)))
        }
    }
}

/// The two streams of events.
enum Events {
    New(Streaming<StreamChatResponse>),
    Resumed(Streaming<ResumeChatResponse>),
}

impl Events {
    async fn next(&mut self, deadline: Option<Instant>) -> Result<Option<ChatEvent>> {
        Ok(match self {
            Self::New(stream) => next(deadline, stream).await?.and_then(|item| item.event),
            Self::Resumed(stream) => next(deadline, stream).await?.and_then(|item| item.event),
        })
    }
}

/// Keeps where a stream is, to go on there.
fn note(seen: &mut ResumeChatRequest, event: &ChatEvent) {
    seen.after_sequence = event.sequence;
    if let Some(Kind::Started(started)) = &event.kind {
        seen.turn_id.clone_from(&started.turn_id);
        seen.attempt = started.attempt;
    }
}
