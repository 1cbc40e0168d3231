//! What a caller may ask of one solve beside the problem itself.

use std::time::Duration;

use crate::duals::Duals;
use crate::problem::ProblemError;

/// How hard to try, how long, and with how many threads.
#[derive(Clone)]
pub struct Options<'a> {
    /// Relative gap at which the answer counts as optimal. At 0 the solver branches until optimality is proven or a
    /// limit is reached.
    pub tolerance: f64,
    /// Wall-clock limit; the best answer so far is returned with its gap.
    pub time_limit: Option<Duration>,
    /// Limit on branch-and-bound nodes. `None` means a default in exact mode and no branching otherwise.
    pub node_limit: Option<usize>,
    /// Threads for the passes over large problems. `None` chooses by size; the assignment does not depend on it.
    pub threads: Option<usize>,
    /// Polled during the solve; returning true ends it with the best answer so far.
    pub stop: Option<&'a (dyn Fn() -> bool + Sync)>,
    /// Multipliers of an earlier, similar problem to start from. Ignored when their shape does not fit.
    pub warm: Option<&'a Duals>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { tolerance: 1e-4, time_limit: None, node_limit: None, threads: None, stop: None, warm: None }
    }
}

impl Options<'_> {
    /// Refuses a tolerance that means nothing.
    pub(crate) fn check(&self) -> Result<(), ProblemError> {
        if self.tolerance >= 0.0 {
            return Ok(());
        }
        Err(ProblemError::Value {
            argument: "tolerance",
            place: String::new(),
            got: self.tolerance.to_string(),
            wanted: "a number >= 0 (0: exact)",
        })
    }
}
