// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! How connections are made, and not made again at once where that failed.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::{Instant, timeout};
use tower_service::Service;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Less than the pauses of a call's repeats together, so that they do not all fall into it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

type BoxError = Box<dyn StdError + Send + Sync>;

/// Makes connections. Calls that come too soon after one that could not be made fail at once, all of
/// them: tonic would make each wait for an attempt of its own.
#[derive(Clone)]
pub(crate) struct Connector<S> {
    inner: S,
    failure: Arc<Mutex<Option<Failure>>>,
}

struct Failure {
    message: String,
    pause: Duration,
    ends: Instant,
}

impl Connector<HttpConnector> {
    pub(crate) fn tcp() -> Self {
        let mut inner = HttpConnector::new();
        inner.enforce_http(false); // TLS is spoken over what this connects.
        inner.set_nodelay(true);
        Self::new(inner)
    }
}

impl<S> Connector<S> {
    fn new(inner: S) -> Self {
        Self { inner, failure: Arc::default() }
    }
}

impl<S> Service<Uri> for Connector<S>
where
    S: Service<Uri>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if let Some(failure) = &*locked(&self.failure)
            && Instant::now() < failure.ends
        {
            let message = failure.message.clone();
            return Box::pin(async { Err(message.into()) });
        }
        let connecting = timeout(CONNECT_TIMEOUT, self.inner.call(uri));
        let failure = self.failure.clone();
        Box::pin(async move {
            let done = match connecting.await {
                Ok(done) => done.map_err(Into::into),
                Err(_) => Err(format!("not connected within {CONNECT_TIMEOUT:?}").into()),
            };
            let mut failure = locked(&failure);
            *failure = done.as_ref().err().map(|error: &BoxError| {
                let last = failure.as_ref().map(|failure| failure.pause);
                let pause = last.map_or(FIRST_PAUSE, |last| last.mul_f64(1.6).min(LONGEST_PAUSE));
                Failure { message: error.to_string(), pause, ends: Instant::now() + pause }
            });
            done
        })
    }
}

fn locked(failure: &Mutex<Option<Failure>>) -> MutexGuard<'_, Option<Failure>> {
    failure.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Fails so many times, then connects.
    struct Failing {
        left: usize,
        tried: Arc<AtomicUsize>,
    }

    impl Service<Uri> for Failing {
        type Response = ();
        type Error = BoxError;
        type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

        fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _uri: Uri) -> Self::Future {
            let try_ = self.tried.fetch_add(1, Ordering::Relaxed);
            let fails = try_ < self.left;
            Box::pin(async move { if fails { Err("refused".into()) } else { Ok(()) } })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_connected_is_left_alone_for_longer_and_longer() {
        let tried = Arc::new(AtomicUsize::new(0));
        let mut connector = Connector::new(Failing { left: 8, tried: tried.clone() });
        let mut pauses = Vec::new();
        let mut since = Instant::now();
        loop {
            let before = tried.load(Ordering::Relaxed);
            let done = connector.call(Uri::from_static("h:1")).await;
            if tried.load(Ordering::Relaxed) > before {
                pauses.push(since.elapsed().as_millis());
                since = Instant::now();
            }
            match done {
                Ok(()) => break,
                Err(error) => assert_eq!(error.to_string(), "refused"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(pauses[..4], [0, 100, 160, 256]);
        assert_eq!(pauses[7..], [1000, 1000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_made_begins_the_pauses_anew() {
        let tried = Arc::new(AtomicUsize::new(0));
        let mut connector = Connector::new(Failing { left: 1, tried: tried.clone() });
        let uri = Uri::from_static("h:1");
        assert!(connector.call(uri.clone()).await.is_err());
        tokio::time::sleep(FIRST_PAUSE).await;
        assert!(connector.call(uri.clone()).await.is_ok());
        assert!(connector.call(uri).await.is_ok());
        assert_eq!(tried.load(Ordering::Relaxed), 3);
    }
}
