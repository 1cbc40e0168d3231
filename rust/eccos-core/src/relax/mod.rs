//! The relaxation over all served queries: its multipliers, its keys and its bound.

pub(crate) mod large;

use crate::control::Control;
use crate::dual::{Limits, Outcome, State, Work};
use crate::program::{Lp, Prepared, dual_value};
use crate::screen::Sums;

/// The relaxation solved: a program over the queries that the multipliers leave open, and fixed keys for the others.
pub(crate) struct Relaxed {
    pub lp: Lp,
    pub state: State,
    pub outcome: Outcome,
    /// The served place of every query of `lp`, ascending.
    pub places: Vec<u32>,
    /// Keys of all served queries.
    pub key: Vec<u8>,
    /// The fixed queries at their keys, and their part of the objective.
    pub fixed: Sums,
    pub held: f64,
    /// `g(y)` over all served queries, in double precision on the unperturbed data.
    pub bound: f64,
    /// Queries that the multipliers rest on.
    pub seen: usize,
    pub steps: usize,
    pub passes: usize,
}

/// Solves the whole program at once, from the multipliers `y`.
pub(crate) fn direct(prepared: &Prepared<'_>, y: &[f64], control: &Control<'_>, work: &mut Work) -> Relaxed {
    let n = prepared.len();
    let lp = Lp::build(prepared, 0..n, prepared.limit.clone());
    let mut state = State::new(&lp, y);
    let outcome = state.climb(&lp, work, &Limits::new(control));
    let places: Vec<u32> = (0..n as u32).collect();
    let bound = dual_value(prepared, &places, &lp.limit, &state.y);
    let (key, steps) = (state.key.clone(), state.steps);
    let seen = if outcome == Outcome::Limit { 0 } else { n };
    Relaxed { lp, state, outcome, places, key, fixed: Sums::of(prepared), held: 0.0, bound, seen, steps, passes: 0 }
}
