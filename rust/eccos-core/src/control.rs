//! When to stop: a deadline and the caller's flag.

use std::time::{Duration, Instant};

use crate::options::Options;
use crate::problem::Problem;
use crate::program::Prepared;
use crate::screen::screen;

/// The share of a time limit that goes to the search.
const SEARCH: f64 = 0.9;
/// From so many pairs on a pass over all queries takes time that has to be kept for it; what a pass takes is found from so
/// many queries.
const PAIRS: usize = 200_000;
const TIMED: usize = 16_384;
/// What rounding and measuring take, in passes.
const ROUNDING: f64 = 2.0;

/// Polled by every loop that can take long.
#[derive(Clone, Copy)]
pub(crate) struct Control<'a> {
    deadline: Option<Instant>,
    /// Roughly what a pass over all queries takes.
    pass: Duration,
    stop: Option<&'a (dyn Fn() -> bool + Sync)>,
}

impl<'a> Control<'a> {
    pub fn new(options: &Options<'a>, start: Instant) -> Self {
        // What is left when the time is up goes to a rounding and to measuring it.
        let deadline = options.time_limit.and_then(|limit| start.checked_add(limit.mul_f64(SEARCH)));
        Self { deadline, pass: Duration::ZERO, stop: options.stop }
    }

    /// Ends early enough for a rounding of so many queries.
    pub fn with_reserve(mut self, problem: &Problem<'_>, options: &Options<'a>, start: Instant) -> Self {
        let Some(limit) = options.time_limit.filter(|_| problem.queries() * problem.models() >= PAIRS) else {
            return self;
        };
        let prepared = Prepared::stated(problem, problem.routable.as_deref());
        let count = TIMED.min(prepared.len());
        let first = (prepared.len() - count) / 2;
        let places: Vec<u32> = (first..first + count).map(|place| place as u32).collect();
        let nothing = vec![0.0; prepared.rows()];
        let before = Instant::now();
        screen(&prepared, Some(&places), &nothing, &nothing, &mut vec![0; prepared.len()], Some(1));
        self.pass = before.elapsed().mul_f64(prepared.len() as f64 / count.max(1) as f64);
        let end = start.checked_add(limit).and_then(|end| end.checked_sub(self.pass.mul_f64(ROUNDING)));
        self.deadline = match (self.deadline, end) {
            (Some(deadline), Some(end)) => Some(deadline.min(end)),
            (deadline, None) => deadline.map(|_| start),
            (None, _) => None,
        };
        self
    }

    /// The same without a deadline.
    pub fn unhurried(&self) -> Self {
        Self { deadline: None, ..*self }
    }

    /// True once the caller has said so.
    pub fn stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop())
    }

    /// True once the solve should end with what it has.
    pub fn expired(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline) || self.stopped()
    }

    /// True once another pass over all queries would end too late.
    pub fn is_short_of_a_pass(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() + self.pass >= deadline) || self.stopped()
    }
}
