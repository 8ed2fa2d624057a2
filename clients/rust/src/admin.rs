// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! AdminService.

use async_stream::try_stream;
use tonic::transport::Channel;

use crate::call::{Caller, answered, method, next, within};
use crate::error::Result;
use crate::stream::Stream;
use crate::v1::admin_service_client::AdminServiceClient;
use crate::v1::{
    ApiKey, AuditEvent, CreateApiKeyRequest, CreateApiKeyResponse, EraseUserRequest,
    EraseUserResponse, ExportUserRequest, GetServerInfoRequest, GetServerInfoResponse,
    GetUsageRequest, ImportUserRequest, Job, LimitUsage, ListApiKeysRequest,
    ListAuditEventsRequest, ListJobsRequest, ReindexRequest, RetryJobRequest, RevokeApiKeyRequest,
};

/// Administration of a tenant and of the server. Its requests name their user themselves.
#[derive(Clone)]
pub struct Admin {
    caller: Caller,
    stub: AdminServiceClient<Channel>,
}

impl Admin {
    pub(crate) fn new(mut caller: Caller) -> Self {
        caller.user_id = "".into();
        let stub = AdminServiceClient::new(caller.channel.clone());
        Self { caller, stub: stub.max_decoding_message_size(usize::MAX) }
    }

    /// Erases a user everywhere and returns the receipt.
    pub async fn erase_user(&self, request: EraseUserRequest) -> Result<EraseUserResponse> {
        self.caller.call(request, method!(self.erase_user)).await
    }

    /// Yields everything kept of a user, a JSON object each.
    pub fn export_user(&self, request: ExportUserRequest) -> Stream<String> {
        let caller = self.caller.clone();
        let export = method!(self.export_user);
        Stream::new(try_stream! {
            let deadline = caller.deadline(None);
            let (first, mut records) = caller.begin(deadline, &request, &export).await?;
            let mut record = first;
            while let Some(found) = record {
                yield found.record_json;
                record = next(deadline, &mut records).await?;
            }
        })
    }

    /// Stores what [`Admin::export_user`] yields, here or at another server, and returns the number
    /// of records.
    ///
    /// # Errors
    ///
    /// The records' own error too, at which nothing more is sent.
    pub async fn import_user(
        &self,
        user_id: impl Into<String>,
        records: impl Into<Stream<String>>,
    ) -> Result<i64> {
        let user_id = user_id.into();
        let mut records = records.into();
        let (broken, mut broke) = tokio::sync::oneshot::channel();
        let uploads = async_stream::stream! {
            while let Some(record) = records.next().await {
                match record {
                    Ok(record_json) => {
                        yield ImportUserRequest { user_id: user_id.clone(), record_json };
                    }
                    Err(error) => {
                        // The call must not end as if this were all: it is dropped unfinished.
                        let _ = broken.send(error);
                        std::future::pending::<()>().await;
                        return;
                    }
                }
            }
        };
        let deadline = self.caller.deadline(None);
        let upload = async {
            let request = self.caller.addressed(uploads, deadline).await?;
            answered(self.stub.clone().import_user(request).await)
        };
        let stopped = async {
            match (&mut broke).await {
                Ok(error) => error,
                Err(_) => std::future::pending().await, // All records were sent.
            }
        };
        let done = within(deadline, async {
            tokio::select! {
                biased;
                error = stopped => Err(error),
                done = upload => done,
            }
        });
        Ok(done.await??.into_inner().records)
    }

    /// Yields the tenant's audit events, newest first, over all pages.
    pub fn list_audit_events(&self, request: ListAuditEventsRequest) -> Stream<AuditEvent> {
        self.caller.list(request, method!(self.list_audit_events))
    }

    /// Makes an API key; its token is in the response and nowhere else.
    pub async fn create_api_key(
        &self,
        request: CreateApiKeyRequest,
    ) -> Result<CreateApiKeyResponse> {
        self.caller.call(request, method!(self.create_api_key)).await
    }

    /// Yields the tenant's API keys, newest first, over all pages.
    pub fn list_api_keys(&self, request: ListApiKeysRequest) -> Stream<ApiKey> {
        self.caller.list(request, method!(self.list_api_keys))
    }

    /// Revokes an API key at once.
    pub async fn revoke_api_key(&self, request: RevokeApiKeyRequest) -> Result<ApiKey> {
        let response = self.caller.call(request, method!(self.revoke_api_key)).await?;
        Ok(response.api_key.unwrap_or_default())
    }

    /// Builds an index anew, in the background, and returns the job's id.
    pub async fn reindex(&self, request: ReindexRequest) -> Result<String> {
        let response = self.caller.call(request, method!(self.reindex)).await?;
        Ok(response.job_id)
    }

    /// Yields background jobs, dead letters first, over all pages.
    pub fn list_jobs(&self, request: ListJobsRequest) -> Stream<Job> {
        self.caller.list(request, method!(self.list_jobs))
    }

    /// Makes a job due now that does not run, a dead letter too.
    pub async fn retry_job(&self, request: RetryJobRequest) -> Result<Job> {
        let response = self.caller.call(request, method!(self.retry_job)).await?;
        Ok(response.job.unwrap_or_default())
    }

    /// Says what the server is, what it uses, and who the caller is to it.
    pub async fn get_server_info(
        &self,
        request: GetServerInfoRequest,
    ) -> Result<GetServerInfoResponse> {
        self.caller.call(request, method!(self.get_server_info)).await
    }

    /// Says what the tenant, or one user, uses of each limit.
    pub async fn get_usage(&self, request: GetUsageRequest) -> Result<Vec<LimitUsage>> {
        let response = self.caller.call(request, method!(self.get_usage)).await?;
        Ok(response.limits)
    }
}
