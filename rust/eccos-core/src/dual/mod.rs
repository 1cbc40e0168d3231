//! The search for the multipliers: a dual simplex with long steps.
//!
//! At a basis of tight elements with normals `B`, the fractions `theta = -B^-1 r` say how much of each element the
//! vertex takes. An element with an impossible fraction leaves along its row `d` of `B^-1`, on which `g` rises with
//! slope `|theta|`. The step walks over the breakpoints of `g` along `d` (queries changing their key) until the slope is
//! used up; the query at which that happens enters as a tie.

mod basis;
mod breakpoints;
mod state;

use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::control::Control;
use crate::program::{Lp, Sparse, dot};

pub(crate) use basis::Element;
pub(crate) use breakpoints::Breakpoints;
pub(crate) use state::{Start, State};

/// A fraction below minus this is impossible.
const FRACTION: f64 = 1e-9;
/// Two rates that differ by less than this never meet.
pub(crate) const RATE: f64 = 1e-9;
/// Replacements between two fresh inverses.
const REFRESH: usize = 60;
/// Longer steps mean that nothing stops the climb.
const FAR: f64 = 1e20;

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Optimal,
    /// `g` grows without end: no assignment meets the rows.
    Infeasible,
    /// The objective passed the cutoff.
    Cutoff,
    /// Too many steps, or time is up.
    Limit,
}

/// When a search may end early.
#[derive(Clone, Copy)]
pub(crate) struct Limits<'a> {
    pub cutoff: f64,
    pub steps: usize,
    pub control: &'a Control<'a>,
}

impl<'a> Limits<'a> {
    pub fn new(control: &'a Control<'a>) -> Self {
        Self { cutoff: f64::INFINITY, steps: 50_000, control }
    }
}

/// Buffers that the steps share.
#[derive(Default)]
pub(crate) struct Work {
    theta: Vec<f64>,
    direction: Vec<f64>,
    /// Sum of the fractions of each tied query.
    tied: Vec<f64>,
    column: Vec<f64>,
    normal: Sparse,
    queue: BinaryHeap<Crossing>,
    pub breakpoints: Breakpoints,
}

/// A query that changes its key to `to` after a step of length `at`. Ordered so that a heap pops the nearest first,
/// ties by the lower query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Crossing {
    pub at: f64,
    pub row: u32,
    pub to: u8,
}

impl Eq for Crossing {}

impl Ord for Crossing {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.total_cmp(&self.at).then(other.row.cmp(&self.row))
    }
}

impl PartialOrd for Crossing {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The element that leaves, and which way.
#[derive(Clone, Copy)]
pub(crate) struct Leaving {
    pub place: usize,
    pub sign: f64,
    /// The query's fractions sum to more than 1: its key leaves, this tie becomes the key.
    pub swap: bool,
}

impl State {
    /// Climbs `g` to its maximum.
    pub fn climb(&mut self, lp: &Lp, work: &mut Work, limits: &Limits<'_>) -> Outcome {
        work.tied.clear();
        work.tied.resize(lp.n, 0.0);
        for step in 0..limits.steps {
            if self.objective >= limits.cutoff {
                return Outcome::Cutoff;
            }
            if step % 4 == 3 && limits.control.expired() {
                return Outcome::Limit;
            }
            if self.basis.age >= REFRESH {
                self.refresh(lp);
            }
            let Some(leaving) = self.choose_leaving(lp, work) else {
                return Outcome::Optimal;
            };
            if !self.pivot(lp, work, leaving) {
                return if Self::is_ray(lp, &work.direction) { Outcome::Infeasible } else { Outcome::Limit };
            }
            self.steps += 1;
        }
        Outcome::Limit
    }

    /// True when `g` rises along a direction without end, on the data of the program and beyond any rounding: then no
    /// assignment, whole or split, meets the rows.
    fn is_ray(lp: &Lp, direction: &[f64]) -> bool {
        let ray: Vec<f64> = direction.iter().map(|d| d.max(0.0)).collect();
        let (mut slope, mut size) = (0.0, 0.0);
        for i in 0..lp.n {
            let rates = (0..lp.m).filter(|&j| lp.may(i, j)).map(|j| lp.priced(&ray, i, j));
            let least = rates.fold(f64::INFINITY, f64::min);
            slope += least;
            size += least.abs();
        }
        for (d, b) in ray.iter().zip(&lp.limit).filter(|(d, _)| **d > 0.0) {
            slope -= d * b;
            size += (d * b).abs();
        }
        slope > 1e-12 * size
    }

    /// Exact dual steepest edge: the element with the largest `infeasibility^2 / |d|^2`.
    fn choose_leaving(&self, lp: &Lp, work: &mut Work) -> Option<Leaving> {
        let k = self.y.len();
        let free = FRACTION * (1.0 + lp.n as f64 * 1e-3);
        work.theta.clear();
        work.theta.extend((0..k).map(|t| self.fraction(t)));
        for (element, theta) in self.basis.elements.iter().zip(&work.theta) {
            if let Element::Tie { row, .. } = element {
                work.tied[*row as usize] += theta;
            }
        }
        let mut best: Option<(f64, Leaving)> = None;
        let mut offer = |excess: f64, norm: f64, leaving: Leaving| {
            let score = excess * excess / norm;
            if best.is_none_or(|(top, _)| score > top) {
                best = Some((score, leaving));
            }
        };
        for (place, (element, &theta)) in self.basis.elements.iter().zip(&work.theta).enumerate() {
            let (excess, sign) = match element {
                Element::Slack(_) => (-theta - free, 1.0),
                Element::Ceiling(_) => (theta - free, -1.0),
                Element::Start(_) | Element::Gone => (theta.abs() - free, if theta < 0.0 { 1.0 } else { -1.0 }),
                Element::Tie { .. } => (-theta - FRACTION, 1.0),
            };
            if excess > 0.0 {
                let row = self.basis.row(place);
                offer(theta.abs(), dot(row, row), Leaving { place, sign, swap: false });
            }
            if let Element::Tie { row, .. } = *element {
                let over = work.tied[row as usize] - 1.0;
                if over > FRACTION {
                    let sum = self.sum_of_rows(row);
                    offer(over, dot(&sum, &sum), Leaving { place, sign: 1.0, swap: true });
                }
            }
        }
        for element in &self.basis.elements {
            if let Element::Tie { row, .. } = element {
                work.tied[*row as usize] = 0.0;
            }
        }
        best.map(|(_, leaving)| leaving)
    }

    /// Sum of the rows of the inverse of all ties of one query: the direction on which its key leaves.
    pub fn sum_of_rows(&self, query: u32) -> Vec<f64> {
        let mut sum = vec![0.0; self.y.len()];
        for (t, element) in self.basis.elements.iter().enumerate() {
            if matches!(element, Element::Tie { row, .. } if *row == query) {
                sum.iter_mut().zip(self.basis.row(t)).for_each(|(s, x)| *s += x);
            }
        }
        sum
    }

    /// One step: false when nothing ends the climb.
    pub fn pivot(&mut self, lp: &Lp, work: &mut Work, leaving: Leaving) -> bool {
        let Leaving { place, sign, swap } = leaving;
        if swap {
            self.swap_key(lp, place);
        }
        let slope = -sign * self.fraction(place);
        let mut direction = std::mem::take(&mut work.direction);
        direction.clear();
        direction.extend(self.basis.row(place).iter().map(|x| sign * x));
        let (cap, bound) = self.nearest_bound(lp, &direction);
        let entering = self.long_step(lp, work, &direction, cap, slope);
        let length = entering.map_or(cap, |crossing| crossing.at);
        if entering.is_none() && bound.is_none() {
            work.direction = direction;
            return false;
        }
        self.y.iter_mut().zip(&direction).for_each(|(y, d)| *y += length * d);
        if length > 0.0 && entering.is_some() {
            self.stride = length;
        }
        if let Element::Tie { row, .. } = self.basis.elements[place] {
            self.ties[row as usize] -= 1;
        }
        let element = match (entering, bound) {
            (Some(crossing), _) => {
                let i = crossing.row as usize;
                lp.normal(i, self.key[i] as usize, crossing.to as usize, &mut work.normal);
                self.ties[i] += 1;
                Element::Tie { row: crossing.row, model: crossing.to }
            }
            (None, bound) => {
                let element = bound.unwrap_or(Element::Gone);
                work.normal.clear();
                if let Element::Slack(c) | Element::Ceiling(c) = element {
                    work.normal.push((c as usize, 1.0));
                }
                element
            }
        };
        self.basis.replace(place, element, &work.normal, &mut work.column);
        self.snap(lp);
        work.direction = direction;
        true
    }

    /// The first multiplier to reach 0 or its ceiling along `direction`.
    fn nearest_bound(&self, lp: &Lp, direction: &[f64]) -> (f64, Option<Element>) {
        let mut nearest = (FAR, None);
        for (c, (&d, &y)) in direction.iter().zip(&self.y).enumerate() {
            let (length, element) = if d < -1e-12 && y > 0.0 {
                (y / -d, Element::Slack(c as u16))
            } else if d > 1e-12 && y < lp.ceiling[c] && lp.ceiling[c].is_finite() {
                ((lp.ceiling[c] - y) / d, Element::Ceiling(c as u16))
            } else {
                continue;
            };
            if length < nearest.0 {
                nearest = (length, Some(element));
            }
        }
        nearest
    }

    /// Multipliers that sit at a bound sit there exactly.
    fn snap(&mut self, lp: &Lp) {
        for element in &self.basis.elements {
            match *element {
                Element::Slack(c) => self.y[c as usize] = 0.0,
                Element::Ceiling(c) => self.y[c as usize] = lp.ceiling[c as usize],
                _ => {}
            }
        }
        self.y.iter_mut().for_each(|y| *y = y.max(0.0));
    }

    /// Walks along `direction` while `g` rises, moving keys on the way. Returns the crossing that uses up the slope, or
    /// that of a query with a basic tie, which cannot be passed.
    fn long_step(&mut self, lp: &Lp, work: &mut Work, direction: &[f64], cap: f64, slope: f64) -> Option<Crossing> {
        // Equal data make the slope cancel to rounding noise: that counts as zero.
        let flat = 1e-10 * (1.0 + slope);
        let mut slope = slope;
        let guess = if self.stride > 0.0 { self.stride } else { 0.1 };
        let reached = breakpoints::breakpoints(lp, self, direction, cap, (slope, guess), &mut work.breakpoints);
        let mut queue = std::mem::take(&mut work.queue).into_vec();
        queue.clear();
        work.breakpoints.list(f64::NEG_INFINITY, reached, &mut queue);
        let mut queue = BinaryHeap::from(queue);
        let mut reached = reached;
        let mut previous = 0.0;
        let entering = loop {
            if queue.is_empty() && reached < cap {
                // Rounding: the first breakpoints up to the threshold did not use up the slope.
                work.breakpoints.list(reached, cap, &mut queue);
                reached = cap;
            }
            let Some(&crossing) = queue.peek() else {
                self.objective += if cap < FAR { slope * (cap - previous) } else { 0.0 };
                break None;
            };
            let (i, to) = (crossing.row as usize, crossing.to as usize);
            let along = Along { lp, y: &self.y, direction, table: work.breakpoints.table(lp) };
            let rate = along.rate(i, to);
            let drop = along.rate(i, self.key[i] as usize) - rate;
            self.objective += slope * (crossing.at - previous);
            previous = crossing.at;
            if slope - drop <= flat || self.ties[i] > 0 {
                break Some(crossing);
            }
            slope -= drop;
            let next = along.next_crossing(crossing, rate).filter(|next| next.at < cap);
            self.move_key(lp, i, to);
            match (next, queue.peek_mut()) {
                (Some(next), Some(mut top)) => *top = next,
                (_, Some(top)) => {
                    PeekMut::pop(top);
                }
                (_, None) => {}
            }
        };
        work.queue = queue;
        entering
    }
}

/// Values and rates along a direction. With one request a query the multipliers are looked up by model.
struct Along<'a> {
    lp: &'a Lp,
    y: &'a [f64],
    direction: &'a [f64],
    table: Option<(&'a [f64], &'a [f64])>,
}

impl Along<'_> {
    #[inline(always)]
    fn rate(&self, i: usize, j: usize) -> f64 {
        match self.table {
            Some((_, rates)) => rates[j] - self.direction[0] * self.lp.q[j * self.lp.stride + i],
            None => self.lp.priced(self.direction, i, j),
        }
    }

    #[inline(always)]
    fn value(&self, i: usize, j: usize) -> f64 {
        let at = j * self.lp.stride + i;
        match self.table {
            Some((prices, _)) => self.lp.p[at] - self.y[0] * self.lp.q[at] + prices[j],
            None => self.lp.value(self.y, i, j),
        }
    }

    /// Where a query that has just changed its key changes it again.
    fn next_crossing(&self, last: Crossing, rate: f64) -> Option<Crossing> {
        let (i, key) = (last.row as usize, last.to as usize);
        let value = self.value(i, key);
        let mut next: Option<Crossing> = None;
        for j in (0..self.lp.m).filter(|&j| j != key) {
            let closing = rate - self.rate(i, j);
            if closing > RATE {
                let at = ((self.value(i, j) - value) / closing).max(last.at);
                if next.is_none_or(|next| at < next.at) {
                    next = Some(Crossing { at, row: last.row, to: j as u8 });
                }
            }
        }
        next
    }
}
