//! Multipliers in the caller's units: what proves a bound, and where a later solve may start.

use crate::problem::{Criterion, Label, Problem};

/// Multipliers of the rows, all >= 0, in units of the objective for one unit of the row. They prove the bound:
///
/// `bound = requirement * limit - sum capacity * L - sum pool * L + group terms + sum_i min_j reduced cost`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Duals {
    /// What is optimised: the unit of all the multipliers. A solve with another criterion does not start from them.
    pub criterion: Criterion,
    /// Quality mode: dollars for one more unit of summed quality. Budget mode: summed quality for one more dollar.
    /// Price mode: the given price of quality.
    pub requirement: f64,
    /// R x M, row-major: objective units for one more unit of the capacity.
    pub capacity: Vec<f64>,
    /// For each pool: objective units for one more unit of its capacity.
    pub pool: Vec<f64>,
    /// For each group: objective units for one more unit of summed quality of that group.
    pub group_quality: Vec<f64>,
    /// For each group: objective units for one more dollar of that group's budget.
    pub group_budget: Vec<f64>,
    /// For each side row: objective units for one more unit of its sum.
    pub row: Vec<f64>,
    /// For each priced load: objective units for one more unit, at most its price.
    pub priced: Vec<f64>,
}

impl Duals {
    /// The multipliers of the requirement, and of the other limits in the order of the fields.
    #[must_use]
    pub fn from_parts(criterion: Criterion, requirement: f64, prices: [Vec<f64>; 6]) -> Self {
        let [capacity, pool, group_quality, group_budget, row, priced] = prices;
        Self { criterion, requirement, capacity, pool, group_quality, group_budget, row, priced }
    }

    /// What [`Duals::from_parts`] takes, the criterion apart.
    #[must_use]
    pub fn into_parts(self) -> (f64, [Vec<f64>; 6]) {
        let prices = [self.capacity, self.pool, self.group_quality, self.group_budget, self.row, self.priced];
        (self.requirement, prices)
    }

    /// All zero, in the shape of a problem.
    pub(crate) fn zero(problem: &Problem<'_>, criterion: Criterion) -> Self {
        Self {
            criterion,
            requirement: 0.0,
            capacity: vec![0.0; problem.input.resources * problem.models()],
            pool: vec![0.0; problem.input.pools.len()],
            group_quality: vec![0.0; problem.groups],
            group_budget: vec![0.0; problem.groups],
            row: vec![0.0; problem.input.rows.len()],
            priced: vec![0.0; problem.input.priced.len()],
        }
    }

    /// True when these are multipliers of the limits of a problem.
    pub(crate) fn fits(&self, problem: &Problem<'_>) -> bool {
        self.capacity.len() == problem.input.resources * problem.models()
            && self.pool.len() == problem.input.pools.len()
            && self.group_quality.len() == problem.groups
            && self.group_budget.len() == problem.groups
            && self.row.len() == problem.input.rows.len()
            && self.priced.len() == problem.input.priced.len()
    }

    /// The multiplier of a limit.
    #[must_use]
    pub fn of(&self, label: Label) -> f64 {
        match label {
            Label::Requirement => self.requirement,
            Label::Capacity(at) => self.capacity[at],
            Label::Pool(pool) => self.pool[pool],
            Label::GroupQuality(group) => self.group_quality[group],
            Label::GroupBudget(group) => self.group_budget[group],
            Label::Row(row) => self.row[row],
            Label::Priced(at) => self.priced[at],
        }
    }

    pub(crate) fn set(&mut self, label: Label, to: f64) {
        *match label {
            Label::Requirement => &mut self.requirement,
            Label::Capacity(at) => &mut self.capacity[at],
            Label::Pool(pool) => &mut self.pool[pool],
            Label::GroupQuality(group) => &mut self.group_quality[group],
            Label::GroupBudget(group) => &mut self.group_budget[group],
            Label::Row(row) => &mut self.row[row],
            Label::Priced(at) => &mut self.priced[at],
        } = to;
    }
}
