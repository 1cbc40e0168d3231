//! When to stop: a deadline and the caller's flag.

use std::time::Instant;

use crate::options::Options;

/// The share of a time limit that goes to the search.
const SEARCH: f64 = 0.9;

/// Polled by every loop that can take long.
#[derive(Clone, Copy)]
pub(crate) struct Control<'a> {
    deadline: Option<Instant>,
    stop: Option<&'a (dyn Fn() -> bool + Sync)>,
}

impl<'a> Control<'a> {
    pub fn new(options: &Options<'a>, start: Instant) -> Self {
        // What is left when the time is up goes to a rounding and to measuring it.
        let deadline = options.time_limit.and_then(|limit| start.checked_add(limit.mul_f64(SEARCH)));
        Self { deadline, stop: options.stop }
    }

    /// True once the caller has said so.
    pub fn stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop())
    }

    /// True once the solve should end with what it has.
    pub fn expired(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline) || self.stopped()
    }
}
