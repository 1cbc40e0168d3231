//! Values of pairs at given multipliers, on the data as given or in a program.

use crate::problem::with_types;
use crate::program::{Lp, NO_ROW, Prepared, dot};
use crate::simd::dispatch;

/// Queries of a block: all that is known of them stays in the cache.
const BLOCK: usize = 128;

type Block<T> = [T; BLOCK];

dispatch! {
    /// `argmin_j p - price q + model_price` for every query of a unit program, and the sum of the minima.
    least_values => least_values_body(lp: &Lp, price: f64, model_prices: &[f64], key: &mut [u8]) -> f64
}

#[inline(always)]
fn least_values_body(lp: &Lp, price: f64, model_prices: &[f64], key: &mut [u8]) -> f64 {
    let mut sum = 0.0;
    for (b, keys) in key.chunks_mut(BLOCK).enumerate() {
        let width = BLOCK.min(lp.stride - b * BLOCK);
        let mut best: Block<f64> = [f64::INFINITY; BLOCK];
        let mut model: Block<u64> = [0; BLOCK];
        let (best, model) = (&mut best[..width], &mut model[..width]);
        for (j, &mu) in model_prices.iter().enumerate() {
            let at = j * lp.stride + b * BLOCK;
            let (p, q) = (&lp.p[at..at + width], &lp.q[at..at + width]);
            for l in 0..width {
                let value = p[l] - price * q[l] + mu;
                let less = value < best[l];
                best[l] = if less { value } else { best[l] };
                model[l] = if less { j as u64 } else { model[l] };
            }
        }
        for ((slot, model), best) in keys.iter_mut().zip(model).zip(best) {
            *slot = *model as u8;
            sum += *best;
        }
    }
    sum
}

/// `g(y)` over some places, on the data as given.
pub(crate) fn dual_value(prepared: &Prepared<'_>, places: &[u32], limit: &[f64], y: &[f64]) -> f64 {
    let sum: f64 = if prepared.is_unit() && prepared.problem.columns.is_none() {
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
