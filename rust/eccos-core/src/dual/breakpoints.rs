//! The breakpoints along a direction: a pass over the columns of a program.
//!
//! Plain Rust over blocks of queries, model by model, written so that the compiler turns each inner loop into vector
//! instructions at every width.

use super::state::State;
use super::{Crossing, RATE};
use crate::program::{By, LANES, Lp, NO_ROW};
use crate::simd::dispatch;

/// Queries of a block. What is known of them is updated once a model: long enough that an update is in the cache before it
/// is read again, short enough that all of it stays there.
const BLOCK: usize = 128;

type Block<T> = [T; BLOCK];

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
    /// Adds the queries whose first breakpoint lies in `(after, upto]`.
    pub fn list(&self, after: f64, upto: f64, out: &mut impl Extend<Crossing>) {
        for (g, group) in self.at[..self.n].chunks(LANES).enumerate() {
            // Most groups have none, which one comparison of all of them tells.
            let near = group.iter().fold(0, |any, &at| any | u64::from(at <= upto));
            if near == 0 {
                continue;
            }
            for (l, &at) in group.iter().enumerate() {
                if at > after && at <= upto && at < f64::INFINITY {
                    let row = g * LANES + l;
                    out.extend([Crossing { at, row: row as u32, to: self.to[row] }]);
                }
            }
        }
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
    let mut first = First::default();
    for at in (0..lp.stride).step_by(BLOCK) {
        let end = lp.stride.min(at + BLOCK);
        let width = end - at;
        first.reset(cap);
        for j in 0..m {
            let column = j * lp.stride + at;
            let (p, q) = (&lp.p[column..column + width], &lp.q[column..column + width]);
            let (value, rate) = (&out.value[at..end], &out.rate[at..end]);
            let (mu, dmu) = (table[0][j], table[1][j]);
            let (ahead, closing) = (&mut first.ahead[..width], &mut first.closing[..width]);
            for l in 0..width {
                ahead[l] = p[l] - y0 * q[l] + mu - value[l];
                closing[l] = rate[l] - (dmu - d0 * q[l]);
            }
            first.offer(width, j);
        }
        first.store(out, at, width);
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
    let mut first = First::default();
    for at in (0..lp.stride).step_by(BLOCK) {
        let end = lp.stride.min(at + BLOCK);
        let width = end - at;
        first.reset(cap);
        for j in 0..lp.m {
            let column = j * lp.stride + at;
            let (value, rate) = (&mut first.ahead[..width], &mut first.closing[..width]);
            let (p, q) = (&lp.p[column..column + width], &lp.q[column..column + width]);
            for l in 0..width {
                value[l] = p[l] - y0 * q[l];
                rate[l] = -d0 * q[l];
            }
            for (family, (price, change)) in lp.families.iter().zip(&out.prices) {
                let coef = if family.coef.is_empty() { &ONES[..width] } else { &family.coef[column..column + width] };
                match family.by {
                    By::Model => {
                        let (mu, dmu) = (price[j], change[j]);
                        for l in 0..width {
                            value[l] += mu * coef[l];
                            rate[l] += dmu * coef[l];
                        }
                    }
                    By::Group => {
                        let (mu, dmu) = (&price[at..end], &change[at..end]);
                        for l in 0..width {
                            value[l] += mu[l] * coef[l];
                            rate[l] += dmu[l] * coef[l];
                        }
                    }
                }
            }
            let (key_value, key_rate) = (&out.value[at..end], &out.rate[at..end]);
            for l in 0..width {
                value[l] -= key_value[l];
                rate[l] = key_rate[l] - rate[l];
            }
            first.offer(width, j);
        }
        first.store(out, at, width);
    }
    threshold(out, cap, climb)
}

/// Coefficients of requests.
static ONES: Block<f64> = [1.0; BLOCK];

/// Rows beyond the last query never change their key.
#[inline(always)]
fn pad(out: &mut Breakpoints, n: usize) {
    out.value[n..].fill(f64::NEG_INFINITY);
    out.rate[n..].fill(0.0);
}

/// The nearest breakpoint of a block of queries, as a ratio `distance / speed`. Ratios are compared by
/// cross-multiplication, so a query costs one division.
struct First {
    distance: Block<f64>,
    speed: Block<f64>,
    model: Block<u64>,
    /// What one more model offers: how far its value lies ahead, and how fast it closes in.
    ahead: Block<f64>,
    closing: Block<f64>,
}

const NONE: u64 = u64::MAX;

impl Default for First {
    fn default() -> Self {
        let zero = [0.0; BLOCK];
        Self { distance: zero, speed: zero, model: [NONE; BLOCK], ahead: zero, closing: zero }
    }
}

impl First {
    #[inline(always)]
    fn reset(&mut self, cap: f64) {
        self.distance.fill(cap);
        self.speed.fill(1.0);
        self.model.fill(NONE);
    }

    #[inline(always)]
    fn offer(&mut self, width: usize, j: usize) {
        let (ahead, closing) = (&self.ahead[..width], &self.closing[..width]);
        let (distance, speed) = (&mut self.distance[..width], &mut self.speed[..width]);
        let model = &mut self.model[..width];
        for l in 0..width {
            let next = ahead[l].max(0.0);
            let nearer = closing[l] > RATE && next * speed[l] < distance[l] * closing[l];
            distance[l] = if nearer { next } else { distance[l] };
            speed[l] = if nearer { closing[l] } else { speed[l] };
            model[l] = if nearer { j as u64 } else { model[l] };
        }
    }

    #[inline(always)]
    fn store(&self, out: &mut Breakpoints, at: usize, width: usize) {
        for (l, slot) in out.at[at..at + width].iter_mut().enumerate() {
            let ratio = self.distance[l] / self.speed[l];
            *slot = if self.model[l] == NONE { f64::INFINITY } else { ratio };
        }
        out.drop[at..at + width].copy_from_slice(&self.speed[..width]);
        for (slot, &model) in out.to[at..at + width].iter_mut().zip(&self.model) {
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
            // A mask instead of a choice, which would be compiled to sixteen jumps.
            let mask = u64::from(at[l] <= length).wrapping_neg();
            lanes[l] += f64::from_bits(drop[l].to_bits() & mask);
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
