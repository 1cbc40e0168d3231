//! The compiled half of `eccos_rs`: borrows the caller's arrays, lets go of the interpreter, calls the solver, converts.

mod answer;
mod arrays;
mod forecast;
mod interrupt;
mod words;

use eccos_core::{Options, Problem};
use pyo3::prelude::*;

use crate::answer::{Answer, Vector};
use crate::arrays::{Arrays, Effort};
use crate::interrupt::Interrupt;

pyo3::import_exception!(eccos_rs.errors, ProblemError);

/// The core's sentence, as the exception that users catch.
fn problem_error(sentence: impl std::fmt::Display) -> PyErr {
    ProblemError::new_err(sentence.to_string())
}

/// Checks the arrays, then runs `work` without the interpreter; Ctrl-C ends it and is raised.
fn detached<T: Send>(
    py: Python<'_>,
    arrays: &Arrays<'_>,
    effort: &Effort<'_>,
    work: impl FnOnce(&Problem<'_>, &Options<'_>) -> Result<T, eccos_core::ProblemError> + Send,
) -> PyResult<T> {
    let inputs = arrays.inputs()?;
    let warm = effort.duals();
    let interrupt = Interrupt::new();
    let stop = || interrupt.poll();
    let options = Options {
        tolerance: effort.tolerance,
        time_limit: effort.time_limit()?,
        node_limit: effort.node_limit,
        threads: effort.threads,
        stop: Some(&stop),
        warm: warm.as_ref(),
    };
    let result = py.detach(|| Problem::new(inputs).and_then(|problem| work(&problem, &options)));
    interrupt.into_result()?;
    result.map_err(problem_error)
}

/// The private module `eccos_rs._core`.
#[pymodule]
#[allow(clippy::needless_pass_by_value)] // what is extracted from Python is owned
mod _core {
    use super::{
        Answer, Arrays, Bound, Effort, PyModule, PyModuleMethods, PyResult, Python, Vector, detached, pyfunction,
    };
    use eccos_core::Counterfactuals;
    use numpy::IntoPyArray;

    #[pymodule_export]
    use crate::forecast::{Forecaster, neighbour_sums};
    #[pymodule_export]
    use crate::words::WordPieces;

    /// Solves one problem; `alternatives` asks for each query's second choice too.
    #[pyfunction]
    #[pyo3(signature = (problem, effort, alternatives, /))]
    fn assign<'py>(
        py: Python<'py>,
        problem: Arrays<'py>,
        effort: Effort<'py>,
        alternatives: bool,
    ) -> PyResult<Answer<'py>> {
        let (solution, others) = detached(py, &problem, &effort, |problem, options| {
            let solution = eccos_core::solve(problem, options)?;
            let others = alternatives.then(|| Counterfactuals::new(problem, &solution));
            Ok((solution, others))
        })?;
        Ok(Answer::new(py, solution, others))
    }

    /// Follows the cost-quality curve: quality, cost and price at each breakpoint, and whether it is complete.
    #[pyfunction]
    #[pyo3(signature = (problem, effort, max_points, /))]
    fn frontier<'py>(
        py: Python<'py>,
        problem: Arrays<'py>,
        effort: Effort<'py>,
        max_points: usize,
    ) -> PyResult<([Vector<'py, f64>; 3], bool)> {
        let curve =
            detached(py, &problem, &effort, |problem, options| eccos_core::frontier(problem, options, max_points))?;
        Ok(([curve.quality, curve.cost, curve.price].map(|values| values.into_pyarray(py)), curve.complete))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
