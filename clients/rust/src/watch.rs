// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! MemoryService/Watch.

use async_stream::try_stream;
use tonic::Response;

use crate::call::{answered, method, next, within};
use crate::memory::Memory;
use crate::retry::Pauses;
use crate::stream::Stream;
use crate::v1::{WatchRequest, WatchResponse};

impl Memory {
    /// Yields the changes of a user or of a session, in order, until the caller stops.
    ///
    /// Without a `resume_token` the first response comes at once and has no subject: whatever is
    /// written after it will be yielded. While the server cannot be reached it is asked again, and the
    /// changes go on where they broke off, without gap or repeat. Keep the last `resume_token` to go
    /// on after a crash of yours.
    pub fn watch(&self, request: WatchRequest) -> Stream<WatchResponse> {
        let mut request = self.caller.prepared(request);
        let caller = self.caller.clone();
        let method = method!(self.watch);
        Stream::new(try_stream! {
            let deadline = caller.deadline(None);
            let begin = async |request| {
                let request = caller.addressed(request, deadline).await?;
                answered(method(request).await).map(Response::into_inner)
            };
            let mut pauses = Pauses::default();
            let mut changes = None;
            loop {
                let change = match &mut changes {
                    Some(changes) => next(deadline, changes).await,
                    None => match within(deadline, begin(request.clone())).await? {
                        Ok(begun) => {
                            changes = Some(begun);
                            continue;
                        }
                        Err(error) => Err(error),
                    },
                };
                match change {
                    Ok(Some(change)) => {
                        request.resume_token.clone_from(&change.resume_token);
                        pauses = Pauses::default();
                        yield change;
                    }
                    Ok(None) => break,
                    Err(error)
                        if error.is_unavailable()
                            && (!request.resume_token.is_empty() || !pauses.are_used_up()) =>
                    {
                        changes = None;
                        within(deadline, pauses.wait()).await?;
                    }
                    Err(error) => Err(error)?,
                }
            }
        })
    }
}
