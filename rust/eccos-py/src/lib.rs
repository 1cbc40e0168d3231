//! The compiled half of `eccos_rs`: borrows the caller's arrays, releases the GIL, calls the crates, converts.

mod answer;
mod arrays;
mod guard;
mod infer;
mod interrupt;

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
fn solved<T: Send>(
    py: Python<'_>,
    arrays: &Arrays<'_>,
    effort: &Effort<'_>,
    work: impl FnOnce(&Problem<'_>, &Options<'_>) -> Result<T, eccos_core::ProblemError> + Send,
) -> PyResult<T> {
    let (pools, rows, priced) = (arrays.pools()?, arrays.rows()?, arrays.priced()?);
    let inputs = arrays.inputs(&pools, &rows, &priced)?;
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
    let result = guard::detached(py, || Problem::new(inputs).and_then(|problem| work(&problem, &options)));
    interrupt.into_result()?;
    result?.map_err(problem_error)
}

/// The private module `eccos_rs._core`.
#[pymodule]
#[allow(clippy::needless_pass_by_value)] // what is extracted from Python is owned
mod _core {
    use super::{
        Answer, Arrays, Bound, Effort, PyModule, PyModuleMethods, PyResult, Python, Vector, pyfunction, solved,
    };
    use eccos_core::Counterfactuals;
    use numpy::IntoPyArray;

    #[pymodule_export]
    use crate::infer::{Forecaster, Vectors, WordPieces, neighbour_sums};

    /// Solves one problem; `alternatives` asks for each query's second choice too.
    #[pyfunction]
    #[pyo3(signature = (problem, effort, alternatives, /))]
    fn assign<'py>(
        py: Python<'py>,
        problem: Arrays<'py>,
        effort: Effort<'py>,
        alternatives: bool,
    ) -> PyResult<Answer<'py>> {
        let (solution, others) = solved(py, &problem, &effort, |problem, options| {
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
            solved(py, &problem, &effort, |problem, options| eccos_core::frontier(problem, options, max_points))?;
        Ok(([curve.quality, curve.cost, curve.price].map(|values| values.into_pyarray(py)), curve.complete))
    }

    /// Panics, so that a test sees what becomes of it; only in debug builds.
    #[cfg(debug_assertions)]
    #[pyfunction]
    fn panic_for_test(py: Python<'_>, message: String) -> PyResult<()> {
        crate::guard::detached(py, || panic!("{message}"))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("REQUIREMENT_TOLERANCE", eccos_core::REQUIREMENT)?;
        module.add("LOAD_TOLERANCE", eccos_core::LOAD)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
