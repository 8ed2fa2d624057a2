// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! The client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::Admin;
use crate::builder::Builder;
use crate::cache::Cache;
use crate::call::Caller;
use crate::chat::Chat;
use crate::memory::Memory;

/// A connection to a server. It may be used by many tasks at once; a clone is the same connection.
#[derive(Clone)]
pub struct Client {
    pub(crate) caller: Caller,
}

impl Client {
    /// Returns the builder of a client of the server at an address, `HOST:PORT` or `unix:PATH`.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder::new(address)
    }

    /// Sessions, messages, facts, recall, and changes as they happen.
    pub fn memory(&self) -> Memory {
        Memory::new(self.caller.clone())
    }

    /// The answer cache.
    pub fn cache(&self) -> Cache {
        Cache::new(self.caller.clone())
    }

    /// Chat with memory and cache.
    pub fn chat(&self) -> Chat {
        Chat::new(self.caller.clone())
    }

    /// Administration of a tenant and of the server.
    pub fn admin(&self) -> Admin {
        Admin::new(self.caller.clone())
    }

    /// Returns the same connection with another bound for all calls: a list, a stream, a watch, an
    /// export and an import take no longer than this as a whole.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        let mut other = self.clone();
        other.caller.timeout = Some(timeout);
        other
    }

    /// Returns the same connection with another user for requests that leave `user_id` empty.
    pub fn with_user_id(&self, user_id: impl Into<Arc<str>>) -> Self {
        let mut other = self.clone();
        other.caller.user_id = user_id.into();
        other
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("user_id", &self.caller.user_id)
            .field("timeout", &self.caller.timeout)
            .finish_non_exhaustive()
    }
}
