// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! CacheService.

use tonic::transport::Channel;

use crate::call::{Caller, method};
use crate::error::Result;
use crate::stream::Stream;
use crate::v1::cache_service_client::CacheServiceClient;
use crate::v1::{
    BatchLookupRequest, CacheEntry, GetEntryRequest, GetStatsRequest, GetStatsResponse,
    InvalidateRequest, ListEntriesRequest, LookupRequest, LookupResponse, ReportFeedbackRequest,
    StoreRequest,
};

/// The answer cache. A miss is a result, not an error.
#[derive(Clone)]
pub struct Cache {
    caller: Caller,
    stub: CacheServiceClient<Channel>,
}

impl Cache {
    pub(crate) fn new(caller: Caller) -> Self {
        let stub = CacheServiceClient::new(caller.channel.clone());
        Self { caller, stub: stub.max_decoding_message_size(usize::MAX) }
    }

    /// Looks for an answer to a prompt.
    pub async fn lookup(&self, request: LookupRequest) -> Result<LookupResponse> {
        self.caller.call(request, method!(self.lookup)).await
    }

    /// Looks for answers to several prompts at once; the results are in their order.
    pub async fn batch_lookup(&self, request: BatchLookupRequest) -> Result<Vec<LookupResponse>> {
        let mut request = self.caller.prepared(request);
        for lookup in &mut request.lookups {
            if lookup.user_id.is_empty() {
                lookup.user_id.clone_from(&request.user_id);
            }
        }
        let response = self.caller.call(request, method!(self.batch_lookup)).await?;
        Ok(response.results)
    }

    /// Stores the answer to a prompt.
    pub async fn store(&self, request: StoreRequest) -> Result<CacheEntry> {
        let response = self.caller.call(request, method!(self.store)).await?;
        Ok(response.entry.unwrap_or_default())
    }

    /// Removes the entries that the selector names and returns how many they were.
    pub async fn invalidate(&self, request: InvalidateRequest) -> Result<i64> {
        let response = self.caller.call(request, method!(self.invalidate)).await?;
        Ok(response.count)
    }

    /// Says that a served answer was right or wrong.
    pub async fn report_feedback(&self, request: ReportFeedbackRequest) -> Result<()> {
        self.caller.call(request, method!(self.report_feedback)).await?;
        Ok(())
    }

    /// Returns hits, misses, savings and observed errors.
    pub async fn get_stats(&self, request: GetStatsRequest) -> Result<GetStatsResponse> {
        self.caller.call(request, method!(self.get_stats)).await
    }

    /// Yields the entries of a scope, newest first, over all pages.
    pub fn list_entries(&self, request: ListEntriesRequest) -> Stream<CacheEntry> {
        self.caller.list(request, method!(self.list_entries))
    }

    /// Returns an entry.
    pub async fn get_entry(&self, request: GetEntryRequest) -> Result<CacheEntry> {
        let response = self.caller.call(request, method!(self.get_entry)).await?;
        Ok(response.entry.unwrap_or_default())
    }
}
