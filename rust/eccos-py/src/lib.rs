//! The compiled half of `eccos_rs`: borrows the caller's arrays, releases the GIL, calls the crates, converts.

// What is extracted from Python is owned; the types of tuples and lists are their documentation; the method that a
// closure calls may be bound to one lifetime.
#![allow(clippy::needless_pass_by_value, clippy::type_complexity, clippy::redundant_closure_for_method_calls)]

mod answer;
mod arrays;
mod infer;

use eccos_core::{Interrupt, Options, Problem, ProblemError as Refused};
use pyo3::prelude::*;

use crate::arrays::{Arrays, Effort};

pyo3::import_exception!(eccos_rs.errors, InternalError);
pyo3::import_exception!(eccos_rs.errors, ProblemError);

/// The core's sentence, as the exception that users catch.
fn refused(error: Refused) -> PyErr {
    ProblemError::new_err(error.to_string())
}

/// Releases the GIL and runs `work`; a panic becomes an `InternalError` that quotes it.
fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    py.detach(|| eccos_core::caught(work)).map_err(InternalError::new_err)
}

/// Checks the arrays, then runs `work` without the interpreter; Ctrl-C ends it and is raised.
fn solved<T: Send>(
    py: Python<'_>,
    arrays: &Arrays<'_>,
    effort: &Effort<'_>,
    work: impl FnOnce(&Problem<'_>, &Options<'_>) -> Result<T, Refused> + Send,
) -> PyResult<T> {
    let limits = arrays.limits().map_err(refused)?;
    let inputs = arrays.inputs(&limits).map_err(refused)?;
    let warm = effort.duals();
    let interrupt = Interrupt::new(|| Python::attach(|py| py.check_signals()));
    let stop = || interrupt.poll();
    let options = Options {
        tolerance: effort.tolerance,
        time_limit: effort.time_limit.map(eccos_core::time_limit).transpose().map_err(refused)?,
        node_limit: effort.node_limit,
        threads: effort.threads,
        stop: Some(&stop),
        warm: warm.as_ref(),
    };
    let result = detached(py, || Problem::new(inputs).and_then(|problem| work(&problem, &options)));
    interrupt.into_result()?;
    result?.map_err(refused)
}

/// The private module `eccos_rs._core`.
#[pymodule]
mod _core {
    use eccos_core::Counterfactuals;
    use numpy::{IntoPyArray, PyArray1};
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    use crate::arrays::{Arrays, Effort};
    #[pymodule_export]
    use crate::infer::{Forecaster, Vectors, WordPieces, neighbour_sums};

    /// Solves one problem; `alternatives` asks for each query's second choice too.
    #[pyfunction]
    fn assign<'py>(
        py: Python<'py>,
        problem: Arrays<'py>,
        effort: Effort<'py>,
        alternatives: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (solution, others) = crate::solved(py, &problem, &effort, |problem, options| {
            let solution = eccos_core::solve(problem, options)?;
            let others = alternatives.then(|| Counterfactuals::new(problem, &solution));
            Ok((solution, others))
        })?;
        crate::answer::answer(py, solution, others)
    }

    /// Follows the cost-quality curve: quality, cost and price at each breakpoint, and whether it is complete.
    #[pyfunction]
    fn frontier<'py>(
        py: Python<'py>,
        problem: Arrays<'py>,
        effort: Effort<'py>,
        points: usize,
    ) -> PyResult<([Bound<'py, PyArray1<f64>>; 3], bool)> {
        let curve =
            crate::solved(py, &problem, &effort, |problem, options| eccos_core::frontier(problem, options, points))?;
        Ok(([curve.quality, curve.cost, curve.price].map(|values| values.into_pyarray(py)), curve.complete))
    }

    /// Panics, so that a test sees what becomes of it; only in debug builds.
    #[cfg(debug_assertions)]
    #[pyfunction]
    fn panic_for_test(py: Python<'_>, message: String) -> PyResult<()> {
        crate::detached(py, || panic!("{message}"))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("REQUIREMENT_TOLERANCE", eccos_core::REQUIREMENT)?;
        module.add("LOAD_TOLERANCE", eccos_core::LOAD)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
