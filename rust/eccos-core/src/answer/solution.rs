//! What a solve returns.

use std::time::Duration;

use super::explain::Explanation;
use crate::duals::Duals;
use crate::problem::{Criterion, Problem};

/// What the caller holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Feasible, and the gap is at most the tolerance.
    Optimal,
    /// Feasible; the gap is known and larger than the tolerance.
    Feasible,
    /// The capacities hold; the highest mean quality that they allow.
    QualityUnreachable,
    /// The capacities hold; the cheapest assignment that they allow.
    BudgetUnreachable,
    /// Capacity below demand: everything that fits is assigned, the rest is deferred.
    Overloaded,
    /// The capacities hold; no assignment keeps every side row.
    RowUnreachable,
    /// No assignment that meets everything was found, and it is not proven that there is none; the nearest one found.
    Undecided,
}

impl Status {
    /// The name users see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Optimal => "optimal",
            Self::Feasible => "feasible",
            Self::QualityUnreachable => "quality_unreachable",
            Self::BudgetUnreachable => "budget_unreachable",
            Self::RowUnreachable => "row_unreachable",
            Self::Overloaded => "overloaded",
            Self::Undecided => "undecided",
        }
    }
}

/// How the solve went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Simplex steps over all levels.
    pub steps: usize,
    /// Branch-and-bound nodes.
    pub nodes: usize,
    /// Passes over all queries.
    pub passes: usize,
    /// Queries whose model the multipliers left open (of the last, smallest linear program).
    pub open: usize,
    /// True when a time limit or the stop flag ended the solve early.
    pub interrupted: bool,
    /// True when nothing is better than the answer by more than a relative 1e-9.
    pub proven: bool,
    /// Time for preparing, multipliers, rounding and checking, together.
    pub elapsed: Duration,
}

/// An assignment with its certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// What the caller holds.
    pub status: Status,
    /// For each query the index of its model, -1 when deferred.
    pub model: Vec<i32>,
    /// Total cost in US dollars.
    pub cost: f64,
    /// Mean quality over the assigned queries (NaN when none is assigned).
    pub quality: f64,
    /// What `objective`, `bound`, `gap` and `duals` are about: that of the stated goal; or, when it could not be met, the
    /// one that comes nearest to it (the most quality, or the least cost).
    pub criterion: Criterion,
    /// Value of the criterion in its own unit: total cost, mean quality, or cost minus value.
    pub objective: f64,
    /// What no assignment of the same queries can beat, in the unit of `objective`.
    pub bound: f64,
    /// What the multipliers alone prove (`bound` may be tighter after branching).
    pub dual_bound: f64,
    /// `|objective - bound| / |bound|`; 0 when both are equal.
    pub gap: f64,
    /// Dollars for one more unit of mean quality; infinite in budget mode when the budget does not bind.
    pub quality_price: f64,
    /// R x M: dollars for one more unit of each capacity.
    pub capacity_price: Vec<f64>,
    /// Dollars for one more unit of each pool's capacity.
    pub pool_price: Vec<f64>,
    /// Dollars for one more unit of each side row's limit: of the sum, or of the mean.
    pub row_price: Vec<f64>,
    /// US dollars for each priced load; part of the cost.
    pub charge: Vec<f64>,
    /// Raw multipliers, for warm starts and for certifying the bound.
    pub duals: Duals,
    /// By how much the requirement is missed: mean quality, or dollars over the budget; 0 when it is met.
    pub violation: f64,
    /// Why, when the problem could not be met as asked.
    pub explanation: Option<Explanation>,
    /// How the solve went.
    pub stats: Stats,
}

/// For each query what would change its model.
#[derive(Clone, Debug, PartialEq)]
pub struct Counterfactuals {
    /// The second choice at the prices of the solution, -1 when there is none.
    pub runner_up: Vec<i32>,
    /// How far the runner-up's cost would have to fall (or the chosen one's rise) before the query would switch, in
    /// units of the objective. Below 0: the query was moved away from its own best choice to fit the limits.
    pub margin: Vec<f64>,
}

impl Counterfactuals {
    /// Compares every query's model with its alternatives at the prices of `solution`.
    #[must_use]
    pub fn new(problem: &Problem<'_>, solution: &Solution) -> Self {
        let m = problem.models();
        let value = |i: usize, j: usize| reduced_value(problem, solution, i, j);
        let mut out = Self { runner_up: vec![-1; problem.queries()], margin: vec![f64::INFINITY; problem.queries()] };
        for (i, &chosen) in solution.model.iter().enumerate() {
            let others = (0..m).filter(|&j| j as i32 != chosen && problem.may(i, j));
            let Some(second) = others.min_by(|&a, &b| value(i, a).total_cmp(&value(i, b))) else {
                continue;
            };
            out.runner_up[i] = second as i32;
            if chosen >= 0 {
                out.margin[i] = value(i, second) - value(i, chosen as usize);
            }
        }
        out
    }
}

/// The value of a pair at the prices of a solution, in units of its objective.
fn reduced_value(problem: &Problem<'_>, solution: &Solution, query: usize, model: usize) -> f64 {
    let duals = &solution.duals;
    let (cost, quality) = (problem.cost(query, model), problem.quality(query, model));
    let mut value = match solution.criterion {
        Criterion::Cost | Criterion::Value(_) => cost - duals.requirement * quality,
        Criterion::Quality => duals.requirement * cost - quality,
    };
    for r in 0..problem.input.resources {
        let shared: f64 = problem.pools_of(r, model).map(|pool| duals.pool[pool]).sum();
        value += (duals.capacity[r * problem.models() + model] + shared) * problem.load(r, query, model);
    }
    for (row, dual) in duals.row.iter().enumerate() {
        value += dual * problem.side(row, query, model);
    }
    for (at, dual) in duals.priced.iter().enumerate() {
        value += dual * problem.priced(at, query, model);
    }
    if let Some(group) = problem.input.group {
        let group = group[query] as usize;
        value += duals.group_budget[group] * cost - duals.group_quality[group] * quality;
    }
    value
}
