//! When to stop: a deadline and the caller's flag.

use std::time::Instant;

use crate::options::Options;

/// Polled by every loop that can take long.
#[derive(Clone, Copy)]
pub(crate) struct Control<'a> {
    deadline: Option<Instant>,
    stop: Option<&'a (dyn Fn() -> bool + Sync)>,
}

impl<'a> Control<'a> {
    pub fn new(options: &Options<'a>, start: Instant) -> Self {
        let deadline = options.time_limit.and_then(|limit| start.checked_add(limit));
        Self { deadline, stop: options.stop }
    }

    /// True once the solve should end with what it has.
    pub fn expired(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline) || self.stop.is_some_and(|stop| stop())
    }
}
