//! The relaxation over all served queries: its multipliers, its keys and its bound.

use crate::control::Control;
use crate::dual::{Limits, Outcome, Work};
use crate::lp::{Lp, dot};
use crate::prepare::{NO_ROW, Prepared};
use crate::problem::with_types;
use crate::screen::Sums;
use crate::state::State;

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
    Relaxed { lp, state, outcome, places, key, fixed: Sums::of(prepared), held: 0.0, bound, steps, passes: 0 }
}

/// `g(y)` over some places, on the data as given.
pub(crate) fn dual_value(prepared: &Prepared<'_>, places: &[u32], limit: &[f64], y: &[f64]) -> f64 {
    let sum: f64 = if prepared.is_unit() {
        let prices = model_prices(prepared, y);
        let input = &prepared.problem.input;
        let weights = (y[0], &prices[..]);
        with_types!(input.cost, input.quality, |cost, quality| unit_values(prepared, places, weights, cost, quality))
    } else {
        places.iter().map(|&place| least_value(prepared, prepared.query(place as usize), y).0).sum()
    };
    sum - dot(y, limit)
}

/// The multiplier of every model's slots (unit problems).
fn model_prices(prepared: &Prepared<'_>, y: &[f64]) -> Vec<f64> {
    let mut prices = vec![0.0; prepared.problem.models()];
    for term in &prepared.terms {
        for (price, &row) in prices.iter_mut().zip(&term.rows) {
            *price = if row == NO_ROW { 0.0 } else { y[row as usize] };
        }
    }
    prices
}

/// The sum of the least values of some queries in a unit problem.
fn unit_values<C: Copy + Into<f64>, Q: Copy + Into<f64>>(
    prepared: &Prepared<'_>,
    places: &[u32],
    (price, prices): (f64, &[f64]),
    cost: &[C],
    quality: &[Q],
) -> f64 {
    let m = prices.len();
    let least = |&place: &u32| {
        let query = prepared.query(place as usize);
        let row = query * m..(query + 1) * m;
        let pairs = cost[row.clone()].iter().zip(&quality[row]).zip(prices).enumerate();
        pairs.fold(f64::INFINITY, |least, (j, ((&c, &a), mu))| {
            let (p, q) = prepared.scaled(c.into(), a.into());
            let value = p - price * q + mu;
            if value < least && prepared.problem.may(query, j) { value } else { least }
        })
    };
    places.iter().map(least).sum()
}

/// The least value of a query's pairs at `y`, and its model.
pub(crate) fn least_value(prepared: &Prepared<'_>, query: usize, y: &[f64]) -> (f64, usize) {
    let mut best = (f64::INFINITY, 0);
    for model in 0..prepared.problem.models() {
        if prepared.problem.may(query, model) {
            let value = pair_value(prepared, query, model, y);
            if value < best.0 {
                best = (value, model);
            }
        }
    }
    best
}

/// `v` of one allowed pair at `y`, on the data as given.
pub(crate) fn pair_value(prepared: &Prepared<'_>, query: usize, model: usize, y: &[f64]) -> f64 {
    let (p, q) = prepared.pair(query, model);
    let mut value = p - y[0] * q;
    for term in &prepared.terms {
        let row = prepared.row(term, query, model);
        if row != NO_ROW {
            value += y[row as usize] * prepared.coefficient(term, query, model);
        }
    }
    value
}
