// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! MemoryService/Watch.

use async_stream::try_stream;
use tonic::metadata::MetadataMap;

use crate::call::{answered, method, next, within};
use crate::error::Code;
use crate::memory::Memory;
use crate::retry::Pauses;
use crate::stream::Stream;
use crate::v1::{WatchRequest, WatchResponse};

const RESUME_KEY: &str = "x-resume-token";

impl Memory {
    /// Yields the changes of a user or of a session, in order, until the caller stops.
    ///
    /// While the server cannot be reached it is asked again, and the changes go on where they broke
    /// off, without gap or repeat. Keep a change's `resume_token` to go on after a crash of yours.
    pub fn watch(&self, request: WatchRequest) -> Stream<WatchResponse> {
        let mut request = self.caller.prepared(request);
        let caller = self.caller.clone();
        let method = method!(self.watch);
        Stream::new(try_stream! {
            let deadline = caller.deadline(None);
            let mut pauses = Pauses::default();
            let mut changes = None;
            loop {
                let change = match &mut changes {
                    Some(changes) => next(deadline, changes).await,
                    None => {
                        let asked = caller.addressed(request.clone(), deadline);
                        let begun = within(deadline, async { answered(method(asked.await?).await) });
                        match begun.await.and_then(|begun| begun) {
                            Ok(begun) => {
                                if request.resume_token.is_empty() {
                                    request.resume_token = first_token(begun.metadata());
                                }
                                changes = Some(begun.into_inner());
                                continue;
                            }
                            Err(error) => Err(error),
                        }
                    }
                };
                match change {
                    Ok(Some(change)) => {
                        request.resume_token.clone_from(&change.resume_token);
                        pauses = Pauses::default();
                        yield change;
                    }
                    Ok(None) => break,
                    Err(error)
                        if error.code() == Code::Unavailable
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

/// Returns where a watch begins, as the server says in its initial metadata.
fn first_token(metadata: &MetadataMap) -> String {
    let token = metadata.get(RESUME_KEY).and_then(|token| token.to_str().ok());
    token.unwrap_or_default().to_owned()
}
