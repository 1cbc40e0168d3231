//! What any binding needs between a caller's language and the solver: names, bytes, interrupts and panics.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytemuck::checked::try_cast_slice;

use crate::problem::{Criterion, Goal, ProblemError};

/// How often a caller is asked whether it was interrupted; the solver polls far more often.
const PAUSE: Duration = Duration::from_millis(20);

impl Goal {
    /// The goal of that name, as `Policy` and `assign` call it in Python.
    ///
    /// # Errors
    /// When there is no such goal.
    pub fn named(name: &str, value: f64) -> Result<Self, ProblemError> {
        match name {
            "min_quality" => Ok(Self::Quality { min: value }),
            "budget" => Ok(Self::Budget { max: value }),
            "quality_value" => Ok(Self::Price { value }),
            _ => Err(ProblemError::Value {
                argument: "goal",
                place: String::new(),
                got: format!("{name:?}"),
                wanted: "min_quality, budget or quality_value",
            }),
        }
    }
}

impl Criterion {
    /// The criterion of that name, [`Criterion::name`] the other way round; `requirement` is the price of quality.
    #[must_use]
    pub fn named(name: &str, requirement: f64) -> Self {
        match name {
            "cost" => Self::Cost,
            "quality" => Self::Quality,
            _ => Self::Value(requirement),
        }
    }
}

/// Bytes as booleans, without a copy.
///
/// # Errors
/// When a byte is neither 0 nor 1.
pub fn booleans<'a>(argument: &'static str, bytes: &'a [u8]) -> Result<&'a [bool], ProblemError> {
    try_cast_slice(bytes).map_err(|_| ProblemError::Boolean { argument })
}

/// A time limit in seconds.
///
/// # Errors
/// When it is negative, not a number, or longer than a [`Duration`] can be.
pub fn time_limit(seconds: f64) -> Result<Duration, ProblemError> {
    Duration::try_from_secs_f64(seconds).map_err(|_| ProblemError::Value {
        argument: "time_limit",
        place: String::new(),
        got: seconds.to_string(),
        wanted: "seconds >= 0",
    })
}

/// Runs `work`.
///
/// # Errors
/// When it panics: a sentence that quotes the panic. Nothing that `work` borrowed may be used then; its answer is lost.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = quoted(panic.as_ref());
        format!("a defect of eccos-rs, please report it with what was passed in: {text}")
    })
}

fn quoted(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Asks a caller now and then whether it was interrupted, and keeps the error that says so.
pub struct Interrupt<E, F: Fn() -> Result<(), E>> {
    ask: F,
    state: Mutex<(Instant, Result<(), E>)>,
}

impl<E, F: Fn() -> Result<(), E>> Interrupt<E, F> {
    /// Asks with `ask`, the first time a fiftieth of a second from now.
    pub fn new(ask: F) -> Self {
        Self { ask, state: Mutex::new((Instant::now(), Ok(()))) }
    }

    /// True once `ask` has returned an error. A second thread that polls at the same moment is told "not yet".
    pub fn poll(&self) -> bool {
        let Ok(mut state) = self.state.try_lock() else {
            return false;
        };
        if state.1.is_ok() && state.0.elapsed() >= PAUSE {
            *state = (Instant::now(), (self.ask)());
        }
        state.1.is_err()
    }

    /// Ends the watch.
    ///
    /// # Errors
    /// With what `ask` returned, when it did.
    pub fn into_result(self) -> Result<(), E> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).1
    }
}
