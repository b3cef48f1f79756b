//! How much of its time a function has left.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The time until Lambda ends the invocation.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    began: Instant,
    total: Duration,
}

impl Budget {
    /// From `now` until `deadline`, which Lambda gives in milliseconds since 1970.
    pub(crate) fn until(deadline: u64, now: Timestamp) -> Self {
        let now = u64::try_from(now.as_millisecond()).unwrap_or(0);
        Self { began: Instant::now(), total: Duration::from_millis(deadline.saturating_sub(now)) }
    }

    /// What is left of it.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.total.saturating_sub(self.began.elapsed())
    }
}
