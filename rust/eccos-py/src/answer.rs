//! Turns what the core returns into a dictionary of new arrays; the Python face makes its dataclasses of it.

use eccos_core::{Counterfactuals, Explanation, Solution};
use numpy::IntoPyArray;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A dictionary of these expressions by their names.
macro_rules! dict {
    ($py:ident, $($key:ident: $value:expr,)+) => {{
        let made = PyDict::new($py);
        $(made.set_item(pyo3::intern!($py, stringify!($key)), $value)?;)+
        Ok(made)
    }};
}

/// An assignment, and each query's second choice where it was asked for.
pub fn answer(py: Python<'_>, made: Solution, others: Option<Counterfactuals>) -> PyResult<Bound<'_, PyDict>> {
    let (requirement, prices) = made.duals.into_parts();
    dict!(py,
        status: made.status.name(),
        model: made.model.into_pyarray(py),
        cost: made.cost,
        quality: made.quality,
        criterion: made.criterion.name(),
        objective: made.objective,
        bound: made.bound,
        dual_bound: made.dual_bound,
        gap: made.gap,
        quality_price: made.quality_price,
        capacity_price: made.capacity_price.into_pyarray(py),
        pool_price: made.pool_price.into_pyarray(py),
        row_price: made.row_price.into_pyarray(py),
        charge: made.charge.into_pyarray(py),
        duals: (requirement, prices.map(|values| values.into_pyarray(py))),
        violation: made.violation,
        reasons: made.explanation.as_ref().map(Explanation::named),
        repair: made.explanation.map(|why| why.repair.into_parts()),
        steps: made.stats.steps,
        nodes: made.stats.nodes,
        passes: made.stats.passes,
        interrupted: made.stats.interrupted,
        proven: made.stats.proven,
        alternatives: others.map(|all| (all.runner_up.into_pyarray(py), all.margin.into_pyarray(py))),
    )
}
