//! The method, step by step.

use crate::options::Options;
use crate::problem::{Problem, ProblemError};
use crate::solution::Solution;

/// Assigns every query to a model.
///
/// # Errors
/// When a limit in `options` is malformed. A problem that cannot be met is an answer, not an error: see
/// [`Solution::status`].
pub fn solve(problem: &Problem<'_>, options: &Options<'_>) -> Result<Solution, ProblemError> {
    let _ = (problem, options);
    unimplemented!("follows in the next commit")
}
