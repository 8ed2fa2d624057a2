// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! How calls are repeated.

use std::time::Duration;

use crate::error::Result;

pub(crate) const MOST_TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Tries until it does not find the server unavailable, five times at most.
///
/// Every call may be repeated: a write either carries a request id or comes to the same when
/// repeated. But the records of an import are a stream, and a watch repeats itself.
pub(crate) async fn repeated<T, F>(attempt: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut pauses = Pauses::default();
    loop {
        match attempt().await {
            Err(error) if error.is_unavailable() && !pauses.are_used_up() => {
                pauses.wait().await;
            }
            done => return done,
        }
    }
}

/// Counts the tries to go on, and waits before each.
#[derive(Default)]
pub(crate) struct Pauses {
    waited: u32,
}

impl Pauses {
    /// Whether another try would be one too many.
    pub(crate) fn are_used_up(&self) -> bool {
        self.waited + 1 >= MOST_TRIES
    }

    /// Waits 0.1 s, twice as long each time up to 2 s, or down to half of that: many clients of one
    /// server must not come back at the same moment.
    pub(crate) async fn wait(&mut self) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.waited.min(16)).min(LONGEST_PAUSE);
        self.waited += 1;
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}
