//! Ctrl-C in the middle of a solve.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How often the interpreter is asked; the solver polls far more often.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks the interpreter now and then whether a signal has come, and keeps what its handler raised.
pub struct Interrupt(Mutex<(Instant, Option<PyErr>)>);

impl Interrupt {
    pub fn new() -> Self {
        Self(Mutex::new((Instant::now(), None)))
    }

    /// True once a signal handler has raised. A second thread that polls at the same moment is told "not yet".
    pub fn poll(&self) -> bool {
        let Ok(mut state) = self.0.try_lock() else {
            return false;
        };
        if state.1.is_none() && state.0.elapsed() >= PAUSE {
            #[allow(clippy::redundant_closure_for_method_calls)] // the method itself is bound to one lifetime
            let raised = Python::attach(|py| py.check_signals()).err();
            *state = (Instant::now(), raised);
        }
        state.1.is_some()
    }

    /// What the handler raised, when it did.
    pub fn into_result(self) -> PyResult<()> {
        let state = self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.1.map_or(Ok(()), Err)
    }
}
