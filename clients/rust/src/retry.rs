// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! How calls are repeated.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Result;

pub(crate) const MOST_TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a chat stream without a deadline, once broken, is resumed without an event.
const RESUME_TIME: Duration = Duration::from_secs(60);

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
    tries: u32,
    waited: u32,
    broke: Option<Instant>,
}

impl Pauses {
    /// Whether another try would be one too many.
    pub(crate) fn are_used_up(&self) -> bool {
        self.tries + 1 >= MOST_TRIES
    }

    /// Whether a stream that broke is tried again: as long as its deadline lets it, if it has one.
    /// Such tries do not count.
    pub(crate) fn go_on(&mut self, deadline: Option<Instant>) -> bool {
        let broke = *self.broke.get_or_insert_with(Instant::now);
        self.tries = 0;
        deadline.is_some() || broke.elapsed() < RESUME_TIME
    }

    /// Waits 0.1 s, twice as long each time up to 1 s, or down to half of that: many clients of one
    /// server must not come back at the same moment.
    pub(crate) async fn wait(&mut self) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.waited.min(16)).min(LONGEST_PAUSE);
        self.tries += 1;
        self.waited += 1;
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}
