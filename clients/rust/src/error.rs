// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! What a failed call returns.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tonic::Status;
use tonic_types::StatusExt;

pub use tonic::Code;

include!(concat!(env!("OUT_DIR"), "/reason.rs"));

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a call returns.
pub type Result<T> = std::result::Result<T, Error>;

/// A bad field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldViolation {
    /// Its path, as in `messages[0].role`.
    pub field: String,
    /// What would be right.
    pub description: String,
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub struct Error(Box<Details>);

#[derive(Clone, Debug)]
struct Details {
    code: Code,
    reason: Option<Reason>,
    message: String,
    field_violations: Vec<FieldViolation>,
    retry_after: Option<Duration>,
    metadata: HashMap<String, String>,
    call_id: Option<String>,
}

impl Error {
    /// The gRPC status.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Why; `None` if the error did not come from the server itself.
    pub fn reason(&self) -> Option<&Reason> {
        self.0.reason.as_ref()
    }

    /// One sentence for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The bad fields.
    pub fn field_violations(&self) -> &[FieldViolation] {
        &self.0.field_violations
    }

    /// When to try again, if the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// More about the reason.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.0.metadata
    }

    /// What to look for in the server's log: the id of the try that failed, not the `request_id`.
    pub fn call_id(&self) -> Option<&str> {
        self.0.call_id.as_deref()
    }

    /// The session's revision or the fact's version now, of an error with
    /// [`Reason::RevisionMismatch`].
    pub fn current_revision(&self) -> Option<i64> {
        self.0.metadata.get("current_revision")?.parse().ok()
    }

    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            code,
            reason: None,
            message: message.into(),
            field_violations: Vec::new(),
            retry_after: None,
            metadata: HashMap::new(),
            call_id: None,
        }))
    }

    pub(crate) fn from_status(status: &Status) -> Self {
        let message = match std::error::Error::source(status) {
            Some(source) => whole_text(source),
            None => status.message().to_owned(),
        };
        let mut error = Self::new(code_of(status), message);
        let details = status.get_error_details();
        let found = &mut error.0;
        if let Some(info) = details.error_info().cloned() {
            found.reason = Some(info.reason.into()).filter(|reason: &Reason| reason.as_str() != "");
            found.metadata = info.metadata;
        }
        if let Some(bad) = details.bad_request() {
            let violations = bad.field_violations.iter().cloned();
            found.field_violations = violations
                .map(|v| FieldViolation { field: v.field, description: v.description })
                .collect();
        }
        found.retry_after = details.retry_info().and_then(|info| info.retry_delay);
        found.call_id = details.request_info().map(|info| info.request_id.clone());
        error
    }

    /// Whether another server, or the same later, may do what this one did not. A server that shuts
    /// down cancels the calls that it has not begun, and gives no reason; a caller's own cancelling
    /// drops the call, and is no error.
    pub(crate) fn is_unavailable(&self) -> bool {
        match self.code() {
            Code::Unavailable => true,
            Code::Cancelled => self.reason().is_none(),
            _ => false,
        }
    }

    /// Whether the connection broke, or the server is going away: not that a part of it is down.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_unavailable() && matches!(self.reason(), None | Some(Reason::ShuttingDown))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{:?} ({reason}): {}", self.code(), self.message()),
            None => write!(f, "{:?}: {}", self.code(), self.message()),
        }
    }
}

impl std::error::Error for Error {}

/// Returns the status that the specification of gRPC has for what happened. A status that tonic made
/// of an error of the connection has a source; most of those it calls UNKNOWN.
fn code_of(status: &Status) -> Code {
    let mut source = std::error::Error::source(status);
    if source.is_none() {
        return status.code();
    }
    while let Some(error) = source {
        if error.is::<tonic::TimeoutExpired>() {
            return Code::DeadlineExceeded;
        }
        if let Some(error) = error.downcast_ref::<h2::Error>()
            && error.is_reset()
            && error.is_remote()
        {
            return match error.reason() {
                Some(h2::Reason::REFUSED_STREAM) => Code::Unavailable,
                Some(h2::Reason::CANCEL) => Code::Cancelled,
                Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
                _ => Code::Internal,
            };
        }
        source = error.source();
    }
    Code::Unavailable
}

/// Returns the text of an error and of what caused it.
pub(crate) fn whole_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn an_error_has_all_that_the_server_said() {
        let mut details = ErrorDetails::new();
        let more = HashMap::from([("current_revision".to_owned(), "7".to_owned())]);
        details
            .set_error_info("REVISION_MISMATCH", "recollect", more)
            .add_bad_request_violation("a.b", "at least 1")
            .set_retry_info(Some(Duration::from_millis(1500)))
            .set_request_info("r1", "");
        let status = Status::with_error_details(Code::Aborted, "too late", details);
        let error = Error::from_status(&status);
        assert_eq!((error.code(), error.message()), (Code::Aborted, "too late"));
        assert_eq!(error.reason(), Some(&Reason::RevisionMismatch));
        assert_eq!(error.current_revision(), Some(7));
        assert_eq!(error.field_violations()[0].field, "a.b");
        assert_eq!(error.field_violations()[0].description, "at least 1");
        assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
        assert_eq!(error.call_id(), Some("r1"));
        assert_eq!(error.to_string(), "Aborted (REVISION_MISMATCH): too late");
    }

    #[test]
    fn a_reason_that_is_not_known_is_kept() {
        let details = ErrorDetails::with_error_info("MOON_FULL", "recollect", HashMap::new());
        let status = Status::with_error_details(Code::Internal, "m", details);
        let reason = Error::from_status(&status).reason().cloned();
        assert_eq!(reason, Some(Reason::Other("MOON_FULL".to_owned())));
        assert_eq!(reason.unwrap().as_str(), "MOON_FULL");
    }

    #[test]
    fn an_error_of_the_connection_has_no_reason() {
        let error = Error::from_status(&Status::unavailable("gone"));
        assert_eq!((error.reason(), error.call_id()), (None, None));
        assert!(error.is_lost());
    }
}
