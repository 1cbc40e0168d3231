//! Turns what the core returns into dictionaries of new arrays; the Python face makes its dataclasses of them.

use eccos_core::{Counterfactuals, Named, Solution};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;

pub type Vector<'py, T> = Bound<'py, PyArray1<T>>;

/// Floor, budget, additions to capacities (resource, model, by how much) and to pools (which, by how much), and new limits
/// of side rows (which, to what).
type Repairs = (Option<f64>, Option<f64>, Vec<(usize, usize, f64)>, Vec<(usize, f64)>, Vec<(usize, f64)>);

/// An assignment.
#[derive(IntoPyObject)]
pub struct Answer<'py> {
    status: &'static str,
    model: Vector<'py, i32>,
    cost: f64,
    quality: f64,
    criterion: &'static str,
    objective: f64,
    bound: f64,
    dual_bound: f64,
    gap: f64,
    quality_price: f64,
    capacity_price: Vector<'py, f64>,
    pool_price: Vector<'py, f64>,
    row_price: Vector<'py, f64>,
    charge: Vector<'py, f64>,
    duals: (f64, [Vector<'py, f64>; 6]),
    violation: f64,
    reasons: Option<Vec<Named>>,
    repair: Option<Repairs>,
    steps: usize,
    nodes: usize,
    passes: usize,
    interrupted: bool,
    proven: bool,
    alternatives: Option<(Vector<'py, i32>, Vector<'py, f64>)>,
}

impl<'py> Answer<'py> {
    pub fn new(py: Python<'py>, solution: Solution, others: Option<Counterfactuals>) -> Self {
        let Solution { status, model, duals, stats, explanation, .. } = solution;
        let prices = [duals.capacity, duals.pool, duals.group_quality, duals.group_budget, duals.row, duals.priced];
        Self {
            status: status.name(),
            model: model.into_pyarray(py),
            cost: solution.cost,
            quality: solution.quality,
            criterion: solution.criterion.name(),
            objective: solution.objective,
            bound: solution.bound,
            dual_bound: solution.dual_bound,
            gap: solution.gap,
            quality_price: solution.quality_price,
            capacity_price: solution.capacity_price.into_pyarray(py),
            pool_price: solution.pool_price.into_pyarray(py),
            row_price: solution.row_price.into_pyarray(py),
            charge: solution.charge.into_pyarray(py),
            duals: (duals.requirement, prices.map(|values| values.into_pyarray(py))),
            violation: solution.violation,
            reasons: explanation.as_ref().map(eccos_core::Explanation::named),
            repair: explanation.map(|why| {
                let repair = why.repair;
                (repair.min_quality, repair.budget, repair.capacity, repair.pool, repair.row)
            }),
            steps: stats.steps,
            nodes: stats.nodes,
            passes: stats.passes,
            interrupted: stats.interrupted,
            proven: stats.proven,
            alternatives: others.map(|all| (all.runner_up.into_pyarray(py), all.margin.into_pyarray(py))),
        }
    }
}
