// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

//! Which calls are repeated, and after what pauses.

use std::time::Duration;

use crate::error::{Code, Result};

pub(crate) const MOST_TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Whether to send a call again that found the server unavailable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// A read, a write that carries a request id, or one that changes nothing twice.
    Yes,
    /// A repeat could do something twice, or fail because the first one worked.
    No,
}

/// Tries until it does not find the server unavailable, five times at most.
pub(crate) async fn repeated<T, F>(repeat: Repeat, attempt: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut pauses = Pauses::default();
    loop {
        match attempt().await {
            Err(error)
                if error.code() == Code::Unavailable
                    && repeat == Repeat::Yes
                    && !pauses.are_used_up() =>
            {
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
