//! Passes over the columns of a program: least values, and the breakpoints along a direction.
//!
//! Plain Rust over blocks of [`LANES`] queries, written so that the compiler turns each inner loop into vector
//! instructions at every width.

use crate::dual::{Crossing, RATE};
use crate::lp::{LANES, Lp};
use crate::prepare::{By, NO_ROW};
use crate::simd::dispatch;
use crate::state::State;

type Block = [f64; LANES];

#[inline(always)]
fn block(column: &[f64], at: usize) -> &Block {
    column[at..at + LANES].try_into().expect("columns are padded to whole blocks")
}

dispatch! {
    /// `argmin_j p - price q + model_price` for every query of a unit program, and the sum of the minima.
    least_values => least_values_body(lp: &Lp, price: f64, model_prices: &[f64], key: &mut [u8]) -> f64
}

#[inline(always)]
fn least_values_body(lp: &Lp, price: f64, model_prices: &[f64], key: &mut [u8]) -> f64 {
    let mut sum = 0.0;
    for (b, keys) in key.chunks_mut(LANES).enumerate() {
        let mut best: Block = [f64::INFINITY; LANES];
        let mut model = [0u64; LANES];
        for (j, &mu) in model_prices.iter().enumerate() {
            let at = j * lp.stride + b * LANES;
            let (p, q) = (block(&lp.p, at), block(&lp.q, at));
            for l in 0..LANES {
                let value = p[l] - price * q[l] + mu;
                let less = value < best[l];
                best[l] = if less { value } else { best[l] };
                model[l] = if less { j as u64 } else { model[l] };
            }
        }
        for ((slot, model), best) in keys.iter_mut().zip(model).zip(best) {
            *slot = model as u8;
            sum += best;
        }
    }
    sum
}

/// First breakpoint of every query along a direction.
#[derive(Debug, Default)]
pub(crate) struct Breakpoints {
    n: usize,
    /// Value and rate of each query's key.
    value: Vec<f64>,
    rate: Vec<f64>,
    /// Step length at which the query changes its key; infinite when it never does before the cap.
    at: Vec<f64>,
    /// How much slope the change uses up.
    drop: Vec<f64>,
    to: Vec<u8>,
    /// Prices and rates of each family, by model or spread over the queries.
    prices: Vec<(Vec<f64>, Vec<f64>)>,
}

impl Breakpoints {
    /// Queries whose first breakpoint lies in `(after, upto]`.
    pub fn within(&self, after: f64, upto: f64) -> impl Iterator<Item = Crossing> + '_ {
        let all = self.at[..self.n].iter().zip(&self.to).enumerate();
        all.filter(move |(_, (at, _))| **at > after && **at <= upto && at.is_finite())
            .map(|(i, (&at, &to))| Crossing { at, row: i as u32, to })
    }

    /// Multipliers and their rates by model, for unit programs.
    pub fn table(&self, lp: &Lp) -> Option<(&[f64], &[f64])> {
        lp.is_unit().then(|| (&self.prices[0].0[..], &self.prices[0].1[..]))
    }

    fn fit(&mut self, lp: &Lp) {
        self.n = lp.n;
        for column in [&mut self.value, &mut self.rate, &mut self.at, &mut self.drop] {
            column.resize(lp.stride, 0.0);
        }
        self.to.resize(lp.stride, 0);
    }

    /// Spreads the multipliers and their rates to models, or to queries for families priced by group.
    fn spread(&mut self, lp: &Lp, y: &[f64], direction: &[f64]) {
        self.prices.resize(lp.families.len(), (vec![], vec![]));
        for ((price, rate), family) in self.prices.iter_mut().zip(&lp.families) {
            let at = |from: &[f64], row: u16| {
                if row == NO_ROW { 0.0 } else { from[row as usize] }
            };
            for (out, from) in [(price, y), (rate, direction)] {
                out.clear();
                match family.by {
                    By::Model => out.extend(family.rows.iter().map(|&row| at(from, row))),
                    By::Group => {
                        out.extend(lp.group.iter().map(|&g| at(from, family.rows[g as usize])));
                        out.resize(lp.stride, 0.0);
                    }
                }
            }
        }
    }
}

/// Finds every query's first breakpoint along `direction` up to `cap`, and returns a step length whose first
/// breakpoints use up the slope (or `cap`). `climb` is the slope at the start and a guess of the length.
pub(crate) fn breakpoints(
    lp: &Lp,
    state: &State,
    direction: &[f64],
    cap: f64,
    climb: (f64, f64),
    out: &mut Breakpoints,
) -> f64 {
    out.fit(lp);
    out.spread(lp, &state.y, direction);
    let prices = (state.y[0], direction[0]);
    if lp.is_unit() {
        if out.prices.is_empty() {
            out.prices.push((vec![0.0; lp.m], vec![0.0; lp.m]));
        }
        unit_pass(lp, state, prices, cap, climb, out)
    } else {
        general_pass(lp, state, prices, cap, climb, out)
    }
}

dispatch! {
    unit_pass => unit_body(
        lp: &Lp, state: &State, prices: (f64, f64), cap: f64, climb: (f64, f64), out: &mut Breakpoints,
    ) -> f64
}

dispatch! {
    general_pass => general_body(
        lp: &Lp, state: &State, prices: (f64, f64), cap: f64, climb: (f64, f64), out: &mut Breakpoints,
    ) -> f64
}

#[inline(always)]
fn unit_body(lp: &Lp, state: &State, prices: (f64, f64), cap: f64, climb: (f64, f64), out: &mut Breakpoints) -> f64 {
    let (y0, d0) = prices;
    let (n, m) = (lp.n, lp.m);
    let mut table = [[0.0; 256]; 2];
    table[0][..m].copy_from_slice(&out.prices[0].0);
    table[1][..m].copy_from_slice(&out.prices[0].1);
    let at_key = state.at_key.p[..n].iter().zip(&state.at_key.q[..n]).zip(&state.key[..n]);
    let slots = out.value[..n].iter_mut().zip(&mut out.rate[..n]);
    for (((p, q), key), (value, rate)) in at_key.zip(slots) {
        *value = p - y0 * q + table[0][*key as usize];
        *rate = table[1][*key as usize] - d0 * q;
    }
    pad(out, n);
    for at in (0..lp.stride).step_by(LANES) {
        let mut first = First::new(cap);
        let (value, rate) = (*block(&out.value, at), *block(&out.rate, at));
        for j in 0..m {
            let (p, q) = (block(&lp.p, j * lp.stride + at), block(&lp.q, j * lp.stride + at));
            let (mu, dmu) = (table[0][j], table[1][j]);
            let (mut ahead, mut closing) = ([0.0; LANES], [0.0; LANES]);
            for l in 0..LANES {
                ahead[l] = p[l] - y0 * q[l] + mu - value[l];
                closing[l] = rate[l] - (dmu - d0 * q[l]);
            }
            first.offer(&ahead, &closing, j);
        }
        first.store(out, at);
    }
    threshold(out, cap, climb)
}

#[inline(always)]
fn general_body(
    lp: &Lp,
    state: &State,
    prices: (f64, f64),
    cap: f64,
    climb: (f64, f64),
    out: &mut Breakpoints,
) -> f64 {
    let (y0, d0) = prices;
    let n = lp.n;
    for i in 0..n {
        out.value[i] = state.at_key.p[i] - y0 * state.at_key.q[i];
        out.rate[i] = -d0 * state.at_key.q[i];
    }
    for ((family, (price, change)), coef) in lp.families.iter().zip(&out.prices).zip(&state.at_key.coef) {
        for i in 0..n {
            let place = if family.by == By::Model { state.key[i] as usize } else { i };
            let use_of = if coef.is_empty() { 1.0 } else { coef[i] };
            out.value[i] += price[place] * use_of;
            out.rate[i] += change[place] * use_of;
        }
    }
    pad(out, n);
    for at in (0..lp.stride).step_by(LANES) {
        let mut first = First::new(cap);
        for j in 0..lp.m {
            let column = j * lp.stride + at;
            let (p, q) = (block(&lp.p, column), block(&lp.q, column));
            let (mut value, mut rate) = ([0.0; LANES], [0.0; LANES]);
            for l in 0..LANES {
                value[l] = p[l] - y0 * q[l];
                rate[l] = -d0 * q[l];
            }
            for (family, (price, change)) in lp.families.iter().zip(&out.prices) {
                let (mu, dmu) = match family.by {
                    By::Model => ([price[j]; LANES], [change[j]; LANES]),
                    By::Group => (*block(price, at), *block(change, at)),
                };
                let coef = if family.coef.is_empty() { &[1.0; LANES] } else { block(&family.coef, column) };
                for l in 0..LANES {
                    value[l] += mu[l] * coef[l];
                    rate[l] += dmu[l] * coef[l];
                }
            }
            let (key_value, key_rate) = (block(&out.value, at), block(&out.rate, at));
            for l in 0..LANES {
                value[l] -= key_value[l];
                rate[l] = key_rate[l] - rate[l];
            }
            first.offer(&value, &rate, j);
        }
        first.store(out, at);
    }
    threshold(out, cap, climb)
}

/// Rows beyond the last query never change their key.
#[inline(always)]
fn pad(out: &mut Breakpoints, n: usize) {
    out.value[n..].fill(-1e30);
    out.rate[n..].fill(0.0);
}

/// The nearest breakpoint of a block of queries, as a ratio `ahead / closing`. Ratios are compared by
/// cross-multiplication, so a query costs one division.
struct First {
    ahead: Block,
    closing: Block,
    model: [u64; LANES],
}

const NONE: u64 = u64::MAX;

impl First {
    #[inline(always)]
    fn new(cap: f64) -> Self {
        Self { ahead: [cap; LANES], closing: [1.0; LANES], model: [NONE; LANES] }
    }

    #[inline(always)]
    fn offer(&mut self, ahead: &Block, closing: &Block, j: usize) {
        for l in 0..LANES {
            let distance = ahead[l].max(0.0);
            let nearer = (closing[l] > RATE) && (distance * self.closing[l] < self.ahead[l] * closing[l]);
            self.ahead[l] = if nearer { distance } else { self.ahead[l] };
            self.closing[l] = if nearer { closing[l] } else { self.closing[l] };
            self.model[l] = if nearer { j as u64 } else { self.model[l] };
        }
    }

    #[inline(always)]
    fn store(&self, out: &mut Breakpoints, at: usize) {
        let lengths = &mut out.at[at..at + LANES];
        for l in 0..LANES {
            let ratio = self.ahead[l] / self.closing[l];
            lengths[l] = if self.model[l] == NONE { f64::INFINITY } else { ratio };
        }
        out.drop[at..at + LANES].copy_from_slice(&self.closing);
        for (slot, model) in out.to[at..at + LANES].iter_mut().zip(self.model) {
            *slot = model as u8;
        }
    }
}

/// The slope that first breakpoints up to a length use up.
#[inline(always)]
fn used(out: &Breakpoints, length: f64) -> f64 {
    let mut lanes = [0.0; LANES];
    for (at, drop) in out.at.chunks_exact(LANES).zip(out.drop.chunks_exact(LANES)) {
        for l in 0..LANES {
            lanes[l] += if at[l] <= length { drop[l] } else { 0.0 };
        }
    }
    lanes.iter().sum()
}

/// Roughly the smallest step length whose first breakpoints use up the slope: grows the guess, then interpolates.
#[inline(always)]
fn threshold(out: &Breakpoints, cap: f64, (slope, guess): (f64, f64)) -> f64 {
    let (mut low, mut used_low) = (0.0, 0.0);
    let (mut high, mut used_high) = (guess.min(cap), used(out, guess.min(cap)));
    while used_high < slope {
        if high >= cap {
            return cap;
        }
        (low, used_low) = (high, used_high);
        high = (high * 4.0).min(cap);
        used_high = if high >= cap { f64::INFINITY } else { used(out, high) };
    }
    for _ in 0..8 {
        if used_high - used_low <= 0.15 * slope + 2.0 {
            break;
        }
        let share = (1.15 * (slope - used_low) / (used_high - used_low)).clamp(0.02, 0.9);
        let share = if used_high.is_finite() { share } else { 0.1 };
        let middle = low + share * (high - low);
        if !(middle > low && middle < high) {
            break;
        }
        let used_middle = used(out, middle);
        if used_middle >= slope {
            (high, used_high) = (middle, used_middle);
        } else {
            (low, used_low) = (middle, used_middle);
        }
    }
    high
}
