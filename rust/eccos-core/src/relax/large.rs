//! The relaxation of many queries without looking at all of them often.
//!
//! 1. A chain of growing samples places the multipliers; how far they still move gives a box around them.
//! 2. One pass over all queries ([`crate::screen`]) sums up those that cannot change inside the box.
//! 3. The program over the others is solved exactly: directly when small, else by a sample of them whose right-hand
//!    side is corrected so that its residual equals the known one (a control variate), and another pass over them.
//!
//! A solution inside the box is exact for *all* queries. Outside, the box is moved there and the pass repeated.

use super::Relaxed;
use crate::control::Control;
use crate::dual::State;
use crate::dual::{Limits, Outcome, Work};
use crate::program::{By, Lp, NO_ROW, Prepared, dual_value, hash};
use crate::screen::{Screened, Sums, screen};

/// The largest of the chain of samples, and the factor between two. Below it the last sample grows as n^0.6, about the size
/// at which what it costs and what it saves are even.
const LAST: usize = 8192;
const FACTOR: usize = 8;
/// From this many queries on the samples only find the box.
const SCREENED: usize = 3000;
/// Rows of a corrected sample.
const SAMPLE: usize = 1536;

/// Queries of the sample that prices are guessed from when there is no time: at least and at most. The first is also the most
/// steps that this takes.
const GUESSED: (usize, usize) = (512, 4096);

/// Everything that the levels share.
struct Levels<'a, 'b> {
    prepared: &'a Prepared<'a>,
    control: &'a Control<'a>,
    threads: Option<usize>,
    work: &'b mut Work,
    key: Vec<u8>,
    /// A common shift of all load multipliers changes no key.
    shiftable: bool,
    /// Queries that the multipliers rest on.
    seen: usize,
    steps: usize,
    passes: usize,
}

/// The exact relaxation over some of the queries, the rest summed up.
struct Level {
    lp: Lp,
    state: State,
    outcome: Outcome,
    held: Sums,
    places: Vec<u32>,
    /// False: out of time before a pass, so that nothing is known of the queries but multipliers.
    passed: bool,
}

/// True when the whole program is better solved at once.
pub(crate) fn is_small(prepared: &Prepared<'_>) -> bool {
    prepared.len() <= 400.max(8 * prepared.rows())
}

/// Solves the relaxation; `None` when the samples say that there is no solution and `insist` is false.
pub(crate) fn solve(
    prepared: &Prepared<'_>,
    warm: Option<&[f64]>,
    threads: Option<usize>,
    control: &Control<'_>,
    work: &mut Work,
    insist: bool,
) -> Option<Relaxed> {
    let key = vec![0; prepared.len()];
    let shiftable = shiftable(prepared);
    let mut levels = Levels { prepared, control, threads, work, key, shiftable, seen: 0, steps: 0, passes: 0 };
    let level = levels.top(warm, insist)?;
    let (seen, steps, passes, mut key) = (levels.seen, levels.steps, levels.passes, levels.key);
    for (&place, &j) in level.places.iter().zip(&level.state.key) {
        key[place as usize] = j;
    }
    let Level { lp, state, outcome, held: fixed, places, passed } = level;
    let held = fixed.objective(prepared);
    let bound = if passed { held + dual_value(prepared, &places, &lp.limit, &state.y) } else { f64::NEG_INFINITY };
    Some(Relaxed { lp, state, outcome, places, key, fixed, held, bound, seen, steps, passes })
}

/// How many queries such multipliers rest on.
pub(crate) fn guessed(prepared: &Prepared<'_>) -> usize {
    prepared.len().min((prepared.len() / 16).clamp(GUESSED.0, GUESSED.1))
}

/// Multipliers from a small sample, whatever the time: what a rounding starts from when no better are known than `y`. The limits
/// of the sample are drawn a little closer, so that what is rounded at its multipliers keeps those of all queries more often.
pub(crate) fn guess(prepared: &Prepared<'_>, y: &[f64], control: &Control<'_>, work: &mut Work) -> Vec<f64> {
    let (n, size) = (prepared.len(), guessed(prepared));
    let share = size as f64 / n as f64;
    let closer = 0.4 / (size as f64).sqrt();
    let limit = prepared.limit.iter().map(|b| (b - closer * b.abs()) * share).collect();
    let lp = Lp::build(prepared, sample(n, size, 0), limit);
    let mut state = State::new(&lp, y);
    state.climb(&lp, work, &Limits { steps: GUESSED.0, ..Limits::new(&control.unhurried()) });
    state.y
}

fn shiftable(prepared: &Prepared<'_>) -> bool {
    prepared.is_unit()
        && prepared.terms.iter().all(|term| term.by == By::Model && term.rows.iter().all(|&row| row != NO_ROW))
}

/// One place in each of `count` equal strata, hashed.
fn sample(n: usize, count: usize, seed: u64) -> impl ExactSizeIterator<Item = usize> {
    (0..count).map(move |t| {
        let (low, high) = (t * n / count, (t + 1) * n / count);
        low + (hash(t as u64, 0x5eed + seed) * (high - low) as f64) as usize
    })
}

impl Levels<'_, '_> {
    fn top(&mut self, warm: Option<&[f64]>, insist: bool) -> Option<Level> {
        let (n, k) = (self.prepared.len(), self.prepared.rows());
        let limit = self.prepared.limit.clone();
        let mut y = warm.map_or_else(|| vec![0.0; k], <[f64]>::to_vec);
        let mut radius = warm.map(|y| y.iter().map(|y| 0.2 * y + 1e-3).collect::<Vec<f64>>());
        if warm.is_some() {
            self.seen = n;
        } else {
            radius = self.chain(&mut y, insist)?;
        }
        if n <= SCREENED {
            let level = self.direct((0..n as u32).collect(), limit, &y);
            // Cut short it has gone on from a sample's multipliers; with none it may not have come far.
            if level.outcome == Outcome::Optimal || self.seen > 0 {
                self.seen = n;
            }
            return Some(level);
        }
        let mut radius = radius.unwrap_or_else(|| Self::spread(&vec![0.0; k], &y, 0.0, 0.0));
        for _ in 0..4 {
            if self.control.is_short_of_a_pass() {
                return Some(self.cut_short(&y));
            }
            let found = self.screen(None, &y, &radius);
            if self.control.expired() {
                return Some(self.cut_short(&y));
            }
            let (residual, rest) = split(&limit, &found);
            if found.open.len() * 4 > 3 * n {
                break;
            }
            let mut level = self.refine(&found.open, &rest, &y, &residual, 1);
            let reached = self.normal(&level.state.y);
            if level.outcome == Outcome::Limit {
                return Some(self.cut_short(&level.state.y));
            }
            if level.outcome == Outcome::Optimal && self.inside(&reached, &y, &radius) {
                level.held.add(&found.held);
                return Some(level);
            }
            self.recentre(&mut radius, &mut y, &reached, level.outcome);
        }
        // The box stays too wide to be of use: refine from all queries, with what is known of them.
        let found = self.screen(None, &y, &vec![0.0; k]);
        let all: Vec<u32> = (0..n as u32).collect();
        let level = self.refine(&all, &limit, &y, &split(&limit, &found).0, 0);
        Some(if level.outcome == Outcome::Limit { self.cut_short(&level.state.y) } else { level })
    }

    /// Samples of growing size, each from the multipliers of the last. Leaves the last multipliers in `y` and returns the
    /// box that they suggest; the outer `None` says that a sample has no solution.
    #[allow(clippy::option_option)]
    fn chain(&mut self, y: &mut Vec<f64>, insist: bool) -> Option<Option<Vec<f64>>> {
        let n = self.prepared.len();
        let mut radius = None;
        let least = 4 * self.prepared.rows();
        let top = ((4.0 * (n as f64).powf(0.6)) as usize).min(LAST).max(3 * least).min(n / 4);
        let mut last = 0;
        for size in [top / (FACTOR * FACTOR), top / FACTOR, top].into_iter().filter(|&size| size >= least) {
            let share = size as f64 / n as f64;
            let limit: Vec<f64> = self.prepared.limit.iter().map(|b| b * share).collect();
            let places: Vec<u32> = sample(n, size, 0).map(|place| place as u32).collect();
            let level = self.direct(places, limit, y);
            if level.outcome != Outcome::Optimal {
                if level.outcome == Outcome::Infeasible && !insist && size >= 1024 {
                    return None;
                }
                break;
            }
            let reached = self.normal(&level.state.y);
            if last > 0 {
                let shrink = 3.0 * (last as f64 / size as f64).sqrt();
                let moved = self.moved(&reached, y);
                radius = Some(Self::spread(&moved, &reached, 0.8 * shrink, 0.3 * shrink));
            }
            *y = reached;
            last = size;
            self.seen = size;
        }
        Some(radius)
    }

    fn direct(&mut self, places: Vec<u32>, limit: Vec<f64>, y: &[f64]) -> Level {
        let lp = Lp::build(self.prepared, places.iter().map(|&place| place as usize), limit);
        let mut state = State::new(&lp, y);
        let outcome = state.climb(&lp, self.work, &Limits::new(self.control));
        self.steps += state.steps;
        Level { lp, state, outcome, held: Sums::of(self.prepared), places, passed: true }
    }

    fn screen(&mut self, places: Option<&[u32]>, y: &[f64], radius: &[f64]) -> Screened {
        if places.is_none() {
            self.passes += 1;
            self.seen = self.prepared.len();
        }
        screen(self.prepared, places, y, radius, &mut self.key, self.threads)
    }

    /// Out of time: the multipliers as they are, and the queries that are tied at them.
    fn cut_short(&mut self, y: &[f64]) -> Level {
        if self.control.is_short_of_a_pass() {
            // Only the multipliers are used of it.
            return self.stopped(vec![], self.prepared.limit.clone(), y);
        }
        let found = self.screen(None, y, &vec![0.0; y.len()]);
        let (_, rest) = split(&self.prepared.limit, &found);
        Level { held: found.held, passed: true, ..self.stopped(found.open, rest, y) }
    }

    /// A level at `y` that was not searched.
    fn stopped(&self, places: Vec<u32>, limit: Vec<f64>, y: &[f64]) -> Level {
        let lp = Lp::build(self.prepared, places.iter().map(|&place| place as usize), limit);
        let state = State::new(&lp, y);
        Level { lp, state, outcome: Outcome::Limit, held: Sums::of(self.prepared), places, passed: false }
    }

    /// The exact relaxation over `places`, given multipliers `y` and the residual of those places there.
    fn refine(&mut self, places: &[u32], limit: &[f64], y: &[f64], residual: &[f64], depth: u64) -> Level {
        let (n, k) = (places.len(), self.prepared.rows());
        let size = SAMPLE.max(12 * k);
        if n <= 2 * size {
            return self.direct(places.to_vec(), limit.to_vec(), y);
        }
        if self.control.expired() {
            return self.stopped(vec![], limit.to_vec(), y);
        }
        let (mut y, mut residual) = (y.to_vec(), residual.to_vec());
        for attempt in 0..6 {
            let seed = 1 + attempt + 16 * depth;
            let Some(reached) = self.corrected(places, size, seed, &y, &residual) else { break };
            let moved = self.moved(&reached, &y);
            y = reached;
            let mut radius = Self::spread(&moved, &y, 0.35, 0.15);
            let mut tries = 0;
            while tries < 4 {
                let found = self.screen(Some(places), &y, &radius);
                let rest;
                (residual, rest) = split(limit, &found);
                let open = found.open.len();
                if open * 3 > 2 * n {
                    break;
                }
                tries += 1;
                if open < size / 2 && tries < 4 {
                    // A sample cannot place the multipliers better than its own spacing: widen before trying.
                    let factor = (size as f64 / open.max(1) as f64).min(8.0);
                    radius.iter_mut().for_each(|r| *r *= factor);
                    continue;
                }
                let mut level = self.refine(&found.open, &rest, &y, &residual, depth + 1);
                let reached = self.normal(&level.state.y);
                if level.outcome == Outcome::Limit {
                    return level;
                }
                if level.outcome == Outcome::Optimal && self.inside(&reached, &y, &radius) {
                    level.held.add(&found.held);
                    return level;
                }
                self.recentre(&mut radius, &mut y, &reached, level.outcome);
            }
        }
        self.direct(places.to_vec(), limit.to_vec(), &y)
    }

    /// Multipliers of a sample of `places` whose limits are such that its residual at `y` is its share of the known one:
    /// only the change from `y` is sampled.
    fn corrected(&mut self, places: &[u32], size: usize, seed: u64, y: &[f64], residual: &[f64]) -> Option<Vec<f64>> {
        let n = places.len();
        let share = size as f64 / n as f64;
        let rows = sample(n, size, seed).map(|t| places[t] as usize).collect::<Vec<_>>();
        let mut lp = Lp::build(self.prepared, rows.into_iter(), vec![0.0; y.len()]);
        let at_zero = State::new(&lp, y);
        lp.limit = at_zero.residual.iter().zip(residual).map(|(own, r)| own - share * r).collect();
        let mut state = State::new(&lp, y);
        let outcome = state.climb(&lp, self.work, &Limits::new(self.control));
        self.steps += state.steps;
        (outcome == Outcome::Optimal).then(|| self.normal(&state.y))
    }

    /// Takes the common shift out of load multipliers that are only defined up to one.
    fn normal(&self, y: &[f64]) -> Vec<f64> {
        let mut y = y.to_vec();
        let slots: f64 = self.prepared.limit[1..].iter().sum();
        if self.shiftable && slots <= self.prepared.len() as f64 * (1.0 + 1e-9) {
            let least = y[1..].iter().copied().fold(f64::INFINITY, f64::min);
            y[1..].iter_mut().for_each(|y| *y -= least);
        }
        y
    }

    /// How far the multipliers moved, a common shift left out.
    fn moved(&self, to: &[f64], from: &[f64]) -> Vec<f64> {
        let mut moved: Vec<f64> = to.iter().zip(from).map(|(a, b)| a - b).collect();
        if self.shiftable && moved.len() > 1 {
            let weight = |c: usize| self.prepared.limit[c].min(self.prepared.len() as f64);
            let total: f64 = (1..moved.len()).map(weight).sum();
            let mean = (1..moved.len()).map(|c| weight(c) * moved[c]).sum::<f64>() / total.max(1e-300);
            moved[1..].iter_mut().for_each(|d| *d -= mean);
        }
        moved.iter_mut().for_each(|d| *d = d.abs());
        moved
    }

    /// True when `to` lies in the box around `y` (up to a common shift where that changes nothing).
    fn inside(&self, to: &[f64], y: &[f64], radius: &[f64]) -> bool {
        let reach = |c: usize| radius[c] * (1.0 + 1e-9);
        if (to[0] - y[0]).abs() > reach(0) {
            return false;
        }
        if !self.shiftable {
            return (1..y.len()).all(|c| (to[c] - y[c]).abs() <= reach(c));
        }
        let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
        for c in 1..y.len() {
            let d = to[c] - y[c];
            (low, high) = (low.max(d - reach(c)), high.min(d + reach(c)));
        }
        low <= high
    }

    /// The solution left the box: it is still the best estimate there is.
    fn recentre(&self, radius: &mut [f64], y: &mut [f64], reached: &[f64], outcome: Outcome) {
        let top = radius.iter().copied().fold(1e-6, f64::max);
        if outcome != Outcome::Optimal {
            radius.iter_mut().for_each(|r| *r = 4.0 * r.max(0.3 * top));
            return;
        }
        for (r, d) in radius.iter_mut().zip(self.moved(reached, y)) {
            *r = if d > *r { (0.7 * d).max(*r) } else { 0.7 * r.max(d) };
        }
        y.copy_from_slice(reached);
    }

    /// A box from the last movement: `own` of each multiplier's, `common` of their root mean square.
    fn spread(moved: &[f64], y: &[f64], own: f64, common: f64) -> Vec<f64> {
        let (sum, count) = moved.iter().filter(|d| **d > 0.0).fold((0.0, 0.0), |(s, n), d| (s + d * d, n + 1.0));
        let typical = (sum / f64::max(count, 1.0)).sqrt();
        let of =
            |(d, y): (&f64, &f64)| if *d == 0.0 && *y == 0.0 { 0.0 } else { (own * d + common * typical).max(1e-6) };
        moved.iter().zip(y).map(of).collect()
    }
}

/// The residual of all screened queries, and what the safe ones leave of the limits.
fn split(limit: &[f64], found: &Screened) -> (Vec<f64>, Vec<f64>) {
    let residual = found.all.iter().zip(limit).map(|(a, b)| a - b).collect();
    let rest = limit.iter().zip(&found.safe).map(|(b, a)| b - a).collect();
    (residual, rest)
}

#[cfg(test)]
mod tests;
