// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! The credential of a client's calls.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;

use tonic::metadata::{Ascii, MetadataValue};

use crate::error::{Code, Error, Result};

type BoxError = Box<dyn StdError + Send + Sync>;
type Token = Pin<Box<dyn Future<Output = std::result::Result<String, BoxError>> + Send>>;

/// A key, or a source of tokens.
#[derive(Clone)]
pub(crate) enum Credential {
    Key(String),
    Source(Arc<dyn Fn() -> Token + Send + Sync>),
}

impl Credential {
    pub(crate) fn source<S, F, E>(source: S) -> Self
    where
        S: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = std::result::Result<String, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self::Source(Arc::new(move || {
            let token = source();
            Box::pin(async move { token.await.map_err(Into::into) })
        }))
    }

    /// Returns the value of a call's `authorization`.
    pub(crate) async fn header(&self) -> Result<MetadataValue<Ascii>> {
        let refused = |why: String| Error::new(Code::Unauthenticated, why);
        let token = match self {
            Self::Key(key) => key.clone(),
            Self::Source(source) => source()
                .await
                .map_err(|error| refused(format!("the token source failed: {error}")))?,
        };
        if token.is_empty() {
            return Err(refused("there is no token to send".to_owned()));
        }
        let mut header: MetadataValue<Ascii> = format!("Bearer {token}")
            .parse()
            .map_err(|_| refused("the token is not one that a header can hold".to_owned()))?;
        header.set_sensitive(true);
        Ok(header)
    }
}
