//! The best assignment found, and what is proven about it.

use super::measure::Measured;
use super::{objective, size, unscaled_bound, unscaled_duals};
use crate::duals::Duals;
use crate::problem::Criterion;
use crate::program::Prepared;
use crate::relax::Relaxed;
use crate::tolerance::REQUIREMENT;

/// Whether an assignment meets the problem as stated, and what is known when it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It meets everything.
    #[default]
    Met,
    /// The relaxation proves that nothing does.
    Unreachable,
    /// The relaxation can be met, and a complete search proves that no whole assignment meets it.
    NoWhole,
    /// Nothing that does was found, and nothing is proven.
    Undecided,
}

/// Whether queries are left without a model although one may take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deferred {
    No,
    /// It is proven that not all of them fit.
    Proven,
    /// No way to fit them was found.
    Undecided,
}

impl Deferred {
    pub fn of(proven: bool) -> Self {
        if proven { Self::Proven } else { Self::Undecided }
    }
}

/// An assignment with what is proven about it, in the caller's units.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidate {
    pub criterion: Criterion,
    /// For each query of the problem its model, -1 when it is not served.
    pub model: Vec<i32>,
    /// Its sums on the data as given.
    pub measured: Measured,
    /// What no assignment of the same queries can beat, in the unit of the criterion.
    pub bound: f64,
    pub dual_bound: f64,
    pub duals: Duals,
    /// Nothing is better by more than rounding.
    pub proven: bool,
    pub verdict: Verdict,
}

/// What `g(y)` may be too high by: it is a sum over the queries less what the limits are worth, and where these two are much
/// larger than what is left, their rounding counts.
fn rounding(prepared: &Prepared<'_>, y: &[f64]) -> f64 {
    let worth: f64 = y.iter().zip(&prepared.limit).map(|(y, b)| y * b.abs()).sum();
    2.0 * f64::EPSILON * (4.0 + (prepared.len() as f64).sqrt()) * worth
}

impl Candidate {
    pub fn new(prepared: &Prepared<'_>, relaxed: &Relaxed, model: Vec<i32>, measured: Measured) -> Self {
        Self::at(prepared, &relaxed.state.y, relaxed.bound, model, measured)
    }

    /// An assignment, multipliers, and what those prove of the scaled program.
    pub fn at(prepared: &Prepared<'_>, y: &[f64], bound: f64, model: Vec<i32>, measured: Measured) -> Self {
        let bound = unscaled_bound(prepared, bound - rounding(prepared, y));
        let duals = unscaled_duals(prepared, y);
        let criterion = prepared.criterion;
        Self { criterion, model, measured, bound, dual_bound: bound, duals, ..Self::default() }
    }

    /// Takes the bound that branching proved of the perturbed program, which lies below the data as given. An assignment
    /// within rounding of a bound on the data is its own bound.
    pub fn raise_bound(&mut self, prepared: &Prepared<'_>, scaled: f64, rounding: f64, complete: bool) {
        let own = objective(self.criterion, &self.measured);
        let branched = unscaled_bound(prepared, scaled);
        let quality = self.criterion == Criterion::Quality;
        self.bound = if quality { self.bound.min(branched) } else { self.bound.max(branched) };
        let apart = if quality { self.bound - own } else { own - self.bound };
        // Quality lies in [0, 1], where the same rounding is absolute, as it is for its floor.
        let scale = size(self.criterion, &self.measured).max(if quality { 1.0 } else { 0.0 });
        // The bound's own allowance for rounding, from the size of the data: it must not stand against a proof at 0.
        let allowance = 2.0 * (unscaled_bound(prepared, scaled + rounding) - branched).abs();
        self.proven = complete && apart <= allowance.max(REQUIREMENT * scale);
        if self.proven {
            self.bound = own;
        }
    }
}
