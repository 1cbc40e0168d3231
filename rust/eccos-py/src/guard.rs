//! Work without the GIL, and a panic in it as an error of the package.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;

pyo3::import_exception!(eccos_rs.errors, InternalError);

/// Releases the GIL and runs `work`; a panic becomes an `InternalError` that quotes it.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    // Nothing that `work` borrows is used after a panic: the answer is lost as a whole.
    let result = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    result.map_err(|panic| InternalError::new_err(sentence(panic.as_ref())))
}

fn sentence(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    format!("a defect of eccos-rs, please report it with what was passed in: {text}")
}
