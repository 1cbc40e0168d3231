//! Multipliers in the caller's units: what proves a bound, and where a later solve may start.

use crate::problem::Goal;

/// Multipliers of the rows, all >= 0, in units of the objective for one unit of the row. They prove the bound:
///
/// `bound = requirement * limit - sum capacity * L + group terms + sum_i min_j reduced cost`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Duals {
    /// What is optimised: the unit of all the multipliers. A solve with another goal does not start from them.
    pub goal: Goal,
    /// Quality mode: dollars for one more unit of summed quality. Budget mode: summed quality for one more dollar.
    /// Price mode: the given price of quality.
    pub requirement: f64,
    /// R x M, row-major: objective units for one more unit of the capacity.
    pub capacity: Vec<f64>,
    /// For each group: objective units for one more unit of summed quality of that group.
    pub group_quality: Vec<f64>,
    /// For each group: objective units for one more dollar of that group's budget.
    pub group_budget: Vec<f64>,
}
