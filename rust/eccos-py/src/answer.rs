//! Turns what the core returns into dictionaries of new arrays; the Python face makes its dataclasses of them.

use eccos_core::{Counterfactuals, Explanation, Goal, Reason, Solution};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;

pub type Vector<'py, T> = Bound<'py, PyArray1<T>>;

/// A reason's name and its numbers by name.
type Why = (&'static str, Vec<(&'static str, f64)>);

/// Floor, budget, and additions to capacities: resource, model, by how much.
type Repairs = (Option<f64>, Option<f64>, Vec<(usize, usize, f64)>);

/// An assignment.
#[derive(IntoPyObject)]
pub struct Answer<'py> {
    status: &'static str,
    model: Vector<'py, i32>,
    cost: f64,
    quality: f64,
    aim: &'static str,
    objective: f64,
    bound: f64,
    dual_bound: f64,
    gap: f64,
    quality_price: f64,
    capacity_price: Vector<'py, f64>,
    duals: (f64, Vector<'py, f64>, Vector<'py, f64>, Vector<'py, f64>),
    violation: f64,
    reasons: Option<Vec<Why>>,
    repair: Option<Repairs>,
    steps: usize,
    nodes: usize,
    passes: usize,
    interrupted: bool,
    proven: bool,
    runner_up: Option<Vector<'py, i32>>,
    margin: Option<Vector<'py, f64>>,
}

impl<'py> Answer<'py> {
    pub fn new(py: Python<'py>, solution: Solution, others: Option<Counterfactuals>) -> Self {
        let Solution { status, model, duals, stats, explanation, .. } = solution;
        let (reasons, repair) = match explanation {
            None => (None, None),
            Some(Explanation { reasons, repair }) => (
                Some(reasons.iter().map(Reason::parts).collect()),
                Some((repair.min_quality, repair.budget, repair.capacity)),
            ),
        };
        let (runner_up, margin) = match others {
            None => (None, None),
            Some(others) => (Some(others.runner_up.into_pyarray(py)), Some(others.margin.into_pyarray(py))),
        };
        Self {
            status: status.name(),
            model: model.into_pyarray(py),
            cost: solution.cost,
            quality: solution.quality,
            aim: match solution.goal {
                Goal::Cost => "cost",
                Goal::Quality => "quality",
                Goal::Value(_) => "value",
            },
            objective: solution.objective,
            bound: solution.bound,
            dual_bound: solution.dual_bound,
            gap: solution.gap,
            quality_price: solution.quality_price,
            capacity_price: solution.capacity_price.into_pyarray(py),
            duals: (
                duals.requirement,
                duals.capacity.into_pyarray(py),
                duals.group_quality.into_pyarray(py),
                duals.group_budget.into_pyarray(py),
            ),
            violation: solution.violation,
            reasons,
            repair,
            steps: stats.steps,
            nodes: stats.nodes,
            passes: stats.passes,
            interrupted: stats.interrupted,
            proven: stats.proven,
            runner_up,
            margin,
        }
    }
}
