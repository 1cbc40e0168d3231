//! The cost-quality frontier: the least cost of the relaxation at every attainable mean quality.

use crate::options::Options;
use crate::problem::{Problem, ProblemError};

/// Breakpoints of the cost-quality curve, from the cheapest assignment to the best one. Between two breakpoints the
/// curve is a straight line.
#[derive(Clone, Debug, PartialEq)]
pub struct Frontier {
    /// Mean quality at each breakpoint, increasing.
    pub quality: Vec<f64>,
    /// Least total cost in US dollars at each breakpoint.
    pub cost: Vec<f64>,
    /// Dollars for one more unit of mean quality on the segment that ends at the breakpoint; 0 for the first.
    pub price: Vec<f64>,
    /// False when a limit ended the walk before the best attainable quality.
    pub complete: bool,
}

/// Follows the dual solution from the cheapest assignment to the best attainable quality.
///
/// The objective of `problem` is ignored; capacities, mask and floors hold. At most `max_points` breakpoints are
/// returned, thinned evenly when there are more.
///
/// # Errors
/// When no assignment serves every query within the capacities.
pub fn frontier(problem: &Problem<'_>, options: &Options<'_>, max_points: usize) -> Result<Frontier, ProblemError> {
    let _ = (problem, options, max_points);
    unimplemented!("follows in the next commit")
}
