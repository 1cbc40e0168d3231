//! Turns what the core returns into dictionaries of new arrays; the Python face makes its dataclasses of them.

use eccos_core::{Counterfactuals, Explanation, Frontier, Goal, Reason, Solution};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;

type Vector<'py, T> = Bound<'py, PyArray1<T>>;

/// A reason's name and its numbers by name.
type Why = (&'static str, Vec<(&'static str, f64)>);

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
    repair: Option<(Option<f64>, Option<f64>, Vec<(usize, usize, f64)>)>,
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
        let Solution {
            status,
            model,
            duals,
            stats,
            explanation,
            ..
        } = solution;
        let (reasons, repair) = match explanation {
            None => (None, None),
            Some(Explanation { reasons, repair }) => (
                Some(reasons.iter().map(why).collect()),
                Some((repair.min_quality, repair.budget, repair.capacity)),
            ),
        };
        let (runner_up, margin) = match others {
            None => (None, None),
            Some(others) => (
                Some(others.runner_up.into_pyarray(py)),
                Some(others.margin.into_pyarray(py)),
            ),
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

fn why(reason: &Reason) -> Why {
    match *reason {
        Reason::CapacityShort { demand, served } => (
            "capacity_short",
            vec![("demand", demand as f64), ("served", served as f64)],
        ),
        Reason::QualityAboveBest { wanted, best } => (
            "quality_above_best",
            vec![("wanted", wanted), ("best", best)],
        ),
        Reason::QualityAboveCapacities { wanted, attainable } => (
            "quality_above_capacities",
            vec![("wanted", wanted), ("attainable", attainable)],
        ),
        Reason::BudgetBelowCheapest { wanted, cheapest } => (
            "budget_below_cheapest",
            vec![("wanted", wanted), ("cheapest", cheapest)],
        ),
        Reason::BudgetBelowCapacities { wanted, attainable } => (
            "budget_below_capacities",
            vec![("wanted", wanted), ("attainable", attainable)],
        ),
        Reason::GroupQuality { group, wanted, got } => (
            "group_quality",
            vec![("group", group as f64), ("wanted", wanted), ("got", got)],
        ),
        Reason::GroupBudget { group, wanted, got } => (
            "group_budget",
            vec![("group", group as f64), ("wanted", wanted), ("got", got)],
        ),
        Reason::NoWholeAssignment { proven } => {
            ("no_whole_assignment", vec![("proven", f64::from(proven))])
        }
    }
}

/// The cost-quality frontier.
#[derive(IntoPyObject)]
pub struct Curve<'py> {
    quality: Vector<'py, f64>,
    cost: Vector<'py, f64>,
    price: Vector<'py, f64>,
    complete: bool,
}

impl<'py> Curve<'py> {
    pub fn new(py: Python<'py>, frontier: Frontier) -> Self {
        Self {
            quality: frontier.quality.into_pyarray(py),
            cost: frontier.cost.into_pyarray(py),
            price: frontier.price.into_pyarray(py),
            complete: frontier.complete,
        }
    }
}
