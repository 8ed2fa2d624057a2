// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! One call: what its request lacks, its deadline, its credential, its repeats.

use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};
use uuid::Uuid;

use crate::builder::Settings;
use crate::error::{Code, Error, Result};
use crate::retry::repeated;
use crate::stream::Stream;

include!(concat!(env!("OUT_DIR"), "/requests.rs"));

/// More than any timeout that is meant: it is taken for none.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A request, with the fields that the client fills in where they are empty.
pub(crate) trait Request: Clone + Send + Sync + 'static {
    fn user_id(&mut self) -> Option<&mut String> {
        None
    }

    fn request_id(&mut self) -> Option<&mut String> {
        None
    }
}

/// A request of a list.
pub(crate) trait Paged: Request {
    type Response: Send;
    type Item: Send + 'static;

    /// Makes it ask for the page of a token.
    fn turn_to(&mut self, token: String);

    /// Returns what a page holds, and the token of the next one.
    fn open(page: Self::Response) -> (Vec<Self::Item>, String);
}

/// A method of a stub, as a function of the request alone.
macro_rules! method {
    ($part:ident . $method:ident) => {{
        let stub = $part.stub.clone();
        move |request| {
            let mut stub = stub.clone();
            async move { stub.$method(request).await }
        }
    }};
}
pub(crate) use method;

/// What every part of a client calls with.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) channel: Channel,
    pub(crate) settings: Arc<Settings>,
    /// Whose memory it is where a request does not say.
    pub(crate) user_id: Arc<str>,
    /// Bounds every call in place of its default.
    pub(crate) timeout: Option<Duration>,
}

impl Caller {
    /// Runs a unary method within the client's timeout.
    pub(crate) async fn call<Q: Request, R, F>(
        &self,
        request: Q,
        method: impl Fn(tonic::Request<Q>) -> F,
    ) -> Result<R>
    where
        F: Future<Output = std::result::Result<Response<R>, Status>>,
    {
        let deadline = self.deadline(Some(self.settings.timeout));
        self.call_until(deadline, self.prepared(request), method).await
    }

    /// Runs a unary method with a request that lacks nothing.
    pub(crate) async fn call_until<Q: Request, R, F>(
        &self,
        deadline: Option<Instant>,
        request: Q,
        method: impl Fn(tonic::Request<Q>) -> F,
    ) -> Result<R>
    where
        F: Future<Output = std::result::Result<Response<R>, Status>>,
    {
        let attempt = || async {
            let request = self.addressed(request.clone(), deadline).await?;
            answered(method(request).await).map(Response::into_inner)
        };
        within(deadline, repeated(attempt)).await?
    }

    /// Returns the items of all pages from the request's on.
    pub(crate) fn list<Q: Paged, F>(
        &self,
        request: Q,
        method: impl Fn(tonic::Request<Q>) -> F + Send + Sync + 'static,
    ) -> Stream<Q::Item>
    where
        F: Future<Output = std::result::Result<Response<Q::Response>, Status>> + Send,
    {
        let caller = self.clone();
        Stream::new(try_stream! {
            let mut request = caller.prepared(request);
            let whole = caller.deadline(None);
            loop {
                let deadline = whole.or_else(|| caller.deadline(Some(caller.settings.timeout)));
                let asked = request.clone();
                let page = caller.call_until(deadline, asked, &method).await?;
                let (items, next) = Q::open(page);
                for item in items {
                    yield item;
                }
                if next.is_empty() {
                    break;
                }
                request.turn_to(next);
            }
        })
    }

    /// Begins a stream and returns it with its first item, which may be its end.
    pub(crate) async fn begin<Q: Request, R, F>(
        &self,
        deadline: Option<Instant>,
        request: &Q,
        method: impl Fn(tonic::Request<Q>) -> F,
    ) -> Result<(Option<R>, Streaming<R>)>
    where
        F: Future<Output = std::result::Result<Response<Streaming<R>>, Status>>,
    {
        within(deadline, repeated(|| self.begin_once(deadline, request, &method))).await?
    }

    /// Does what [`Caller::begin`] does, without repeats.
    pub(crate) async fn begin_once<Q: Request, R, F>(
        &self,
        deadline: Option<Instant>,
        request: &Q,
        method: impl Fn(tonic::Request<Q>) -> F,
    ) -> Result<(Option<R>, Streaming<R>)>
    where
        F: Future<Output = std::result::Result<Response<Streaming<R>>, Status>>,
    {
        let attempt = async {
            let request = self.addressed(request.clone(), deadline).await?;
            let mut stream = answered(method(request).await)?.into_inner();
            let first = answered(stream.message().await)?;
            Ok((first, stream))
        };
        within(deadline, attempt).await?
    }

    /// Returns a request with a user and a request id where it has such fields and leaves them empty.
    pub(crate) fn prepared<Q: Request>(&self, mut request: Q) -> Q {
        if let Some(user_id) = request.user_id().filter(|user_id| user_id.is_empty()) {
            user_id.push_str(&self.user_id);
        }
        if let Some(request_id) = request.request_id().filter(|request_id| request_id.is_empty()) {
            *request_id = Uuid::new_v4().to_string();
        }
        request
    }

    /// Returns a request with its deadline and the credential.
    pub(crate) async fn addressed<Q>(
        &self,
        request: Q,
        deadline: Option<Instant>,
    ) -> Result<tonic::Request<Q>> {
        let mut request = tonic::Request::new(request);
        if let Some(deadline) = deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        if let Some(credential) = &self.settings.credential {
            request.metadata_mut().insert("authorization", credential.header().await?);
        }
        Ok(request)
    }

    /// Returns when a call that begins now has to end; a call's own timeout comes first.
    pub(crate) fn deadline(&self, default: Option<Duration>) -> Option<Instant> {
        let timeout = self.timeout.or(default).filter(|timeout| *timeout < FOREVER);
        timeout.map(|timeout| Instant::now() + timeout)
    }
}

/// Returns what work returns, or DEADLINE_EXCEEDED once it is too late.
pub(crate) async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = T>,
) -> Result<T> {
    let Some(deadline) = deadline else { return Ok(work.await) };
    let late = || Error::new(Code::DeadlineExceeded, "the call took longer than its timeout");
    if deadline <= Instant::now() {
        return Err(late()); // A timer would let work through that is done within a millisecond.
    }
    timeout_at(deadline, work).await.map_err(|_| late())
}

/// Returns what a stub's method returned.
pub(crate) fn answered<R>(answer: std::result::Result<R, Status>) -> Result<R> {
    answer.map_err(|status| Error::from_status(&status))
}

/// Returns what comes next in a stream within a deadline.
pub(crate) async fn next<R>(
    deadline: Option<Instant>,
    stream: &mut Streaming<R>,
) -> Result<Option<R>> {
    answered(within(deadline, stream.message()).await?)
}
