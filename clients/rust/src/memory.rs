// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! MemoryService.

use tonic::transport::Channel;

use crate::call::{Caller, method};
use crate::error::Result;
use crate::stream::Stream;
use crate::v1::memory_service_client::MemoryServiceClient;
use crate::v1::{
    AppendMessagesRequest, AppendMessagesResponse, ClearSessionRequest, CompactSessionRequest,
    CreateSessionRequest, DeleteSessionRequest, Episode, ExtractFactsRequest, ExtractFactsResponse,
    Fact, ForgetFactRequest, GetContextRequest, GetContextResponse, GetEpisodeRequest,
    GetFactHistoryRequest, GetFactRequest, GetSessionRequest, ListEpisodesRequest,
    ListFactsRequest, ListMessagesRequest, ListSessionsRequest, Message, RecallRequest,
    RecallResponse, RememberRequest, RememberResponse, Session, UpdateFactRequest,
    UpdateSessionRequest,
};

/// Conversation memory: sessions and their messages, facts, recall, and changes as they happen.
#[derive(Clone)]
pub struct Memory {
    pub(crate) caller: Caller,
    pub(crate) stub: MemoryServiceClient<Channel>,
}

impl Memory {
    pub(crate) fn new(caller: Caller) -> Self {
        let stub = MemoryServiceClient::new(caller.channel.clone());
        Self { caller, stub: stub.max_decoding_message_size(usize::MAX) }
    }

    /// Creates a session; without an id the server makes one.
    pub async fn create_session(&self, request: CreateSessionRequest) -> Result<Session> {
        let response = self.caller.call(request, method!(self.create_session)).await?;
        Ok(response.session.unwrap_or_default())
    }

    /// Returns a session.
    pub async fn get_session(&self, request: GetSessionRequest) -> Result<Session> {
        let response = self.caller.call(request, method!(self.get_session)).await?;
        Ok(response.session.unwrap_or_default())
    }

    /// Yields a user's sessions, most recently updated first, over all pages.
    pub fn list_sessions(&self, request: ListSessionsRequest) -> Stream<Session> {
        self.caller.list(request, method!(self.list_sessions))
    }

    /// Changes the fields that the mask names.
    pub async fn update_session(&self, request: UpdateSessionRequest) -> Result<Session> {
        let response = self.caller.call(request, method!(self.update_session)).await?;
        Ok(response.session.unwrap_or_default())
    }

    /// Starts the conversation anew; the transcript stays.
    pub async fn clear_session(&self, request: ClearSessionRequest) -> Result<Session> {
        let response = self.caller.call(request, method!(self.clear_session)).await?;
        Ok(response.session.unwrap_or_default())
    }

    /// Deletes a session and what was drawn from it alone.
    pub async fn delete_session(&self, request: DeleteSessionRequest) -> Result<()> {
        self.caller.call(request, method!(self.delete_session)).await?;
        Ok(())
    }

    /// Appends messages, all or none; they are durable when it returns.
    pub async fn append_messages(
        &self,
        request: AppendMessagesRequest,
    ) -> Result<AppendMessagesResponse> {
        self.caller.call(request, method!(self.append_messages)).await
    }

    /// Yields a session's messages over all pages.
    pub fn list_messages(&self, request: ListMessagesRequest) -> Stream<Message> {
        self.caller.list(request, method!(self.list_messages))
    }

    /// Returns what to put into a model's prompt.
    pub async fn get_context(&self, request: GetContextRequest) -> Result<GetContextResponse> {
        self.caller.call(request, method!(self.get_context)).await
    }

    /// Stores facts, all or none; they are durable when it returns.
    pub async fn remember(&self, request: RememberRequest) -> Result<RememberResponse> {
        self.caller.call(request, method!(self.remember)).await
    }

    /// Finds facts, turns and episodes by meaning and words.
    pub async fn recall(&self, request: RecallRequest) -> Result<RecallResponse> {
        self.caller.call(request, method!(self.recall)).await
    }

    /// Returns the current version of a fact.
    pub async fn get_fact(&self, request: GetFactRequest) -> Result<Fact> {
        let response = self.caller.call(request, method!(self.get_fact)).await?;
        Ok(response.fact.unwrap_or_default())
    }

    /// Yields a user's facts, most recently recorded first, over all pages.
    pub fn list_facts(&self, request: ListFactsRequest) -> Stream<Fact> {
        self.caller.list(request, method!(self.list_facts))
    }

    /// Writes the next version of a fact.
    pub async fn update_fact(&self, request: UpdateFactRequest) -> Result<Fact> {
        let response = self.caller.call(request, method!(self.update_fact)).await?;
        Ok(response.fact.unwrap_or_default())
    }

    /// Deletes a fact with its whole history.
    pub async fn forget_fact(&self, request: ForgetFactRequest) -> Result<()> {
        self.caller.call(request, method!(self.forget_fact)).await?;
        Ok(())
    }

    /// Returns every version of a fact, oldest first.
    pub async fn get_fact_history(&self, request: GetFactHistoryRequest) -> Result<Vec<Fact>> {
        let response = self.caller.call(request, method!(self.get_fact_history)).await?;
        Ok(response.versions)
    }

    /// Extracts facts from a session's messages not yet read, now.
    pub async fn extract_facts(
        &self,
        request: ExtractFactsRequest,
    ) -> Result<ExtractFactsResponse> {
        self.caller.call(request, method!(self.extract_facts)).await
    }

    /// Brings a session's rolling summary up to date, now.
    pub async fn compact_session(&self, request: CompactSessionRequest) -> Result<Session> {
        let response = self.caller.call(request, method!(self.compact_session)).await?;
        Ok(response.session.unwrap_or_default())
    }

    /// Yields a user's episodes, newest first, over all pages.
    pub fn list_episodes(&self, request: ListEpisodesRequest) -> Stream<Episode> {
        self.caller.list(request, method!(self.list_episodes))
    }

    /// Returns an episode.
    pub async fn get_episode(&self, request: GetEpisodeRequest) -> Result<Episode> {
        let response = self.caller.call(request, method!(self.get_episode)).await?;
        Ok(response.episode.unwrap_or_default())
    }
}
