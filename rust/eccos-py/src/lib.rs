//! The compiled half of `eccos_rs`: borrows the caller's arrays, lets go of the interpreter, calls the solver, converts.

use pyo3::prelude::*;

/// The private module `eccos_rs._core`.
#[pymodule]
mod _core {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
