// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! What lists and streams return.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::{Error, Result};

/// What a list or a stream yields, until it ends or after an error. Dropping it ends the call.
///
/// It is a [`futures_core::Stream`] too, for the combinators of the futures crates.
#[must_use = "a stream does nothing unless it is read"]
pub struct Stream<T> {
    items: Pin<Box<dyn futures_core::Stream<Item = Result<T>> + Send>>,
}

impl<T> Stream<T> {
    /// Returns a stream of what another one yields.
    pub fn new(items: impl futures_core::Stream<Item = Result<T>> + Send + 'static) -> Self {
        Self { items: Box::pin(items) }
    }

    /// Returns what comes next, or `None` at the end.
    pub async fn next(&mut self) -> Option<Result<T>> {
        std::future::poll_fn(|context| self.items.as_mut().poll_next(context)).await
    }

    /// Returns everything that is still to come.
    ///
    /// # Errors
    ///
    /// The stream's; what came before it is lost.
    pub async fn into_vec(mut self) -> Result<Vec<T>> {
        let mut all = Vec::new();
        while let Some(item) = self.next().await {
            all.push(item?);
        }
        Ok(all)
    }
}

impl<T> futures_core::Stream for Stream<T> {
    type Item = std::result::Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.as_mut().poll_next(context)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl<T> fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl<T: Send + 'static> From<Vec<T>> for Stream<T> {
    /// Returns a stream that yields these.
    fn from(items: Vec<T>) -> Self {
        Self::new(async_stream::stream! {
            for item in items {
                yield Ok(item);
            }
        })
    }
}
