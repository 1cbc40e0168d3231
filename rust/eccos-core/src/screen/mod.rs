//! One pass over many queries at given multipliers: which of them cannot change their model inside a box around them.
//!
//! A query with key k is *safe* when for every other model j
//!
//! ```text
//! v[i,j] - v[i,k] > sum_r box_r |A_r(i,j) - A_r(i,k)|
//! ```
//!
//! Safe queries are summed up, the others are listed. The pass also returns `r(y)` of all queries. It runs in single
//! precision with a margin that covers its rounding; sums are always taken in double precision from the data as given.

mod columns;
mod kernel;
mod rows;
mod tile;

use std::ops::Range;

use crate::parallel::{self, CHUNK};
use crate::problem::Criterion;
use crate::program::{By, NO_ROW, Prepared, Source, least_value, pair_value};
use kernel::{Kernel, Lists, Load, Side, Weights};
use rows::Out;

/// What a pass found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Screened {
    /// `sum A_k` over all queries at their keys, and over the safe ones.
    pub all: Vec<f64>,
    pub safe: Vec<f64>,
    /// The safe queries at their keys, in the caller's units.
    pub held: Sums,
    /// The places of the others, ascending.
    pub open: Vec<u32>,
}

/// What a chunk of rows found, in the caller's units.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Chunk {
    /// How many queries are open.
    pub open: usize,
    /// Sums at the keys: of all rows, and of the safe ones.
    pub all: Sums,
    pub safe: Sums,
}

/// Sums at the keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    pub cost: f64,
    pub quality: f64,
    /// By model, for each load family.
    pub load: Vec<f64>,
    /// Queries, quality and cost of each group, for programs that have group rows.
    pub group: Vec<(f64, f64, f64)>,
}

impl Sums {
    pub fn new(loads: usize, groups: usize) -> Self {
        Self { load: vec![0.0; loads], group: vec![(0.0, 0.0, 0.0); groups], ..Self::default() }
    }

    /// No sums yet, of a program's shape.
    pub fn of(prepared: &Prepared<'_>) -> Self {
        let loads = prepared.terms.iter().filter(|term| term.by == By::Model).count().max(1);
        Self::new(loads * prepared.problem.models(), if prepared.has_groups() { prepared.problem.groups } else { 0 })
    }

    #[inline(always)]
    pub fn add_group(&mut self, group: usize, cost: f64, quality: f64) {
        let of = &mut self.group[group];
        *of = (of.0 + 1.0, of.1 + quality, of.2 + cost);
    }

    pub fn add(&mut self, other: &Self) {
        self.cost += other.cost;
        self.quality += other.quality;
        self.load.iter_mut().zip(&other.load).for_each(|(sum, x)| *sum += x);
        let groups = self.group.iter_mut().zip(&other.group);
        groups.for_each(|(sum, x)| *sum = (sum.0 + x.0, sum.1 + x.1, sum.2 + x.2));
    }

    /// The objective of the scaled program.
    pub fn objective(&self, prepared: &Prepared<'_>) -> f64 {
        prepared.scale_p
            * match prepared.criterion {
                Criterion::Cost => self.cost,
                Criterion::Quality => -self.quality,
                Criterion::Value(value) => self.cost - value * self.quality,
            }
    }

    /// `sum A_k` for every row of the scaled program.
    fn rows(&self, prepared: &Prepared<'_>) -> Vec<f64> {
        let mut rows = vec![0.0; prepared.rows()];
        rows[0] = match prepared.criterion {
            Criterion::Cost => -self.quality * prepared.scale_q,
            Criterion::Quality => self.cost * prepared.scale_q,
            Criterion::Value(_) => 0.0,
        };
        let m = prepared.problem.models();
        let mut loads = self.load.chunks_exact(m);
        for term in &prepared.terms {
            let sums: Vec<f64> = match (term.by, term.source) {
                (By::Model, _) => loads.next().map_or(vec![], <[f64]>::to_vec),
                (By::Group, Source::Cost) => self.group.iter().map(|of| of.2).collect(),
                (By::Group, _) => self.group.iter().map(|of| -of.1).collect(),
            };
            for (sum, &row) in sums.into_iter().zip(&term.rows) {
                if row != NO_ROW {
                    rows[row as usize] += sum * term.scale;
                }
            }
        }
        rows
    }
}

/// Screens the given places (`None`: all) at `y`, writing their keys.
pub(crate) fn screen(
    prepared: &Prepared<'_>,
    places: Option<&[u32]>,
    y: &[f64],
    radius: &[f64],
    key: &mut [u8],
    threads: Option<usize>,
) -> Screened {
    let kernel = kernel(prepared, y, radius);
    let lists = Lists { places, served: prepared.served };
    let work = |range: Range<usize>, key: &mut [u8], open: &mut [u32]| match &kernel {
        Some(kernel) => {
            rows::screen(kernel, &lists, range, (key, open), |query| exact_row(prepared, query, y, radius))
        }
        None => exact_chunk(prepared, places, range, (key, open), y, radius),
    };
    // Zeros that are never written take no memory; the open places of a chunk are written where the chunk lies.
    let mut open = vec![0; places.map_or(prepared.len(), <[u32]>::len)];
    let chunks = match places {
        None => parallel::chunks(key, &mut open, threads, work),
        Some(places) => {
            let mut found = vec![0; places.len()];
            let chunks = parallel::chunks(&mut found, &mut open, threads, work);
            for (&place, &j) in places.iter().zip(&found) {
                key[place as usize] = j;
            }
            chunks
        }
    };
    let (mut all, mut held) = (Sums::of(prepared), Sums::of(prepared));
    let mut listed = 0;
    for (c, chunk) in chunks.iter().enumerate() {
        open.copy_within(c * CHUNK..c * CHUNK + chunk.open, listed);
        listed += chunk.open;
        all.add(&chunk.all);
        held.add(&chunk.safe);
    }
    open.truncate(listed);
    Screened { all: all.rows(prepared), safe: held.rows(prepared), held, open }
}

/// The single-precision kernel, where the scales are within its range.
fn kernel<'a>(prepared: &'a Prepared<'_>, y: &[f64], radius: &[f64]) -> Option<Kernel<'a>> {
    let problem = prepared.problem;
    let m = problem.models();
    let in_range = |x: f64| x == 0.0 || (1e-30..=1e30).contains(&x);
    // The box is widened by more than its own rounding.
    let widen = 1.0 + 4e-6;
    let at = |from: &[f64], row: u16, scale: f64| if row == NO_ROW { 0.0 } else { from[row as usize] * scale };
    let (mut loads, mut sides) = (vec![], vec![]);
    for term in prepared.terms.iter().filter(|term| term.by == By::Model) {
        let (values, sign) = match term.source {
            Source::Load(resource) => (Some(problem.loads(resource)?), 1.0),
            Source::Priced(priced) => {
                let priced = &problem.input.priced[priced];
                (problem.loads(priced.resource), priced.sign())
            }
            Source::Side(row) => {
                // Every model has its row.
                let row = problem.input.rows[row];
                let weight = |from: &[f64]| at(from, term.rows[0], term.scale);
                let (price, radius) = (row.sign() * weight(y), weight(radius) * widen);
                if !in_range(price.abs()) || !in_range(radius) {
                    return None;
                }
                sides.push(Side { row, price: price as f32, radius: radius as f32 });
                continue;
            }
            _ => (None, 1.0),
        };
        let spread = |from: &[f64], factor: f64| -> Vec<f32> {
            term.rows.iter().map(|&row| at(from, row, term.scale * factor) as f32).collect()
        };
        loads.push(Load { values, sign, price: spread(y, sign), radius: spread(radius, widen) });
        if !in_range(term.scale) {
            return None;
        }
    }
    let grouped = prepared.has_groups();
    if loads.is_empty() && sides.is_empty() && !grouped {
        loads.push(Load { values: None, sign: 1.0, price: vec![0.0; m], radius: vec![0.0; m] });
    }
    let (cost, quality) = prepared.weights(y[0]);
    let on_requirement = radius[0] * prepared.scale_q;
    let on_cost = prepared.criterion == Criterion::Quality;
    let (box_on_cost, box_on_quality) = if on_cost { (on_requirement, 0.0) } else { (0.0, on_requirement) };
    let mut weights = vec![[cost, quality, box_on_cost, box_on_quality]; if grouped { problem.groups } else { 1 }];
    for term in prepared.terms.iter().filter(|term| term.by == By::Group) {
        let of = usize::from(term.source != Source::Cost);
        for (weights, &row) in weights.iter_mut().zip(&term.rows) {
            weights[of] += at(y, row, term.scale);
            weights[of + 2] += at(radius, row, term.scale);
        }
    }
    if !weights.iter().flatten().all(|&x| in_range(x)) {
        return None;
    }
    let narrow = |[cost, quality, box_on_cost, box_on_quality]: [f64; 4]| Weights {
        cost: cost as f32,
        quality: quality as f32,
        box_on_cost: (box_on_cost * widen) as f32,
        box_on_quality: (box_on_quality * widen) as f32,
    };
    Some(Kernel {
        queries: problem.queries(),
        models: m,
        width: problem.width(),
        columns: problem.columns,
        cost: problem.input.cost,
        quality: problem.input.quality,
        loads,
        sides,
        allowed: problem.usable.as_deref(),
        group: if grouped { problem.input.group } else { None },
        weights: weights.into_iter().map(narrow).collect(),
    })
}

/// One row in double precision: key, and whether it is safe.
pub(crate) fn exact_row(prepared: &Prepared<'_>, query: usize, y: &[f64], radius: &[f64]) -> (usize, bool) {
    let (least, key) = least_value(prepared, query, y);
    let m = prepared.problem.models();
    let safe = (0..m).filter(|&j| j != key && prepared.problem.may(query, j)).all(|j| {
        let apart = pair_value(prepared, query, j, y) - least;
        apart > reach(prepared, query, (j, key), radius) + 1e-9
    });
    (key, safe)
}

/// How far the values of two models of a query can move against each other inside the box.
fn reach(prepared: &Prepared<'_>, query: usize, (j, key): (usize, usize), radius: &[f64]) -> f64 {
    let mut sum = radius[0] * (prepared.pair(query, j).1 - prepared.pair(query, key).1).abs();
    for term in &prepared.terms {
        let part = |model: usize| match prepared.row(term, query, model) {
            NO_ROW => (NO_ROW, 0.0, 0.0),
            row => (row, radius[row as usize], prepared.coefficient(term, query, model)),
        };
        let (a, b) = (part(j), part(key));
        sum += if a.0 == b.0 { a.1 * (a.2 - b.2).abs() } else { a.1 * a.2.abs() + b.1 * b.2.abs() };
    }
    sum
}

/// A chunk in double precision, for scales that single precision does not hold.
fn exact_chunk(
    prepared: &Prepared<'_>,
    places: Option<&[u32]>,
    range: Range<usize>,
    (keys, open): Out<'_>,
    y: &[f64],
    radius: &[f64],
) -> Chunk {
    let mut chunk = Chunk { all: Sums::of(prepared), safe: Sums::of(prepared), open: 0 };
    for (at, slot) in range.zip(keys) {
        let place = places.map_or(at, |places| places[at] as usize);
        let query = prepared.query(place);
        let (key, safe) = exact_row(prepared, query, y, radius);
        *slot = key as u8;
        add_exact(prepared, query, key, &mut chunk.all);
        if safe {
            add_exact(prepared, query, key, &mut chunk.safe);
        } else {
            open[chunk.open] = place as u32;
            chunk.open += 1;
        }
    }
    chunk
}

/// Takes a query at a model out of sums that hold it.
pub(crate) fn remove(prepared: &Prepared<'_>, query: usize, model: usize, sums: &mut Sums) {
    let mut own = Sums::of(prepared);
    add_exact(prepared, query, model, &mut own);
    sums.cost -= own.cost;
    sums.quality -= own.quality;
    sums.load.iter_mut().zip(&own.load).for_each(|(sum, x)| *sum -= x);
    let groups = sums.group.iter_mut().zip(&own.group);
    groups.for_each(|(sum, x)| *sum = (sum.0 - x.0, sum.1 - x.1, sum.2 - x.2));
}

fn add_exact(prepared: &Prepared<'_>, query: usize, key: usize, sums: &mut Sums) {
    let problem = prepared.problem;
    let (cost, quality) = (problem.cost(query, key), problem.quality(query, key));
    sums.cost += cost;
    sums.quality += quality;
    for (family, term) in prepared.terms.iter().filter(|term| term.by == By::Model).enumerate() {
        let used = match term.source {
            Source::Load(resource) => problem.load(resource, query, key),
            Source::Side(row) => problem.side(row, query, key),
            Source::Priced(at) => problem.priced(at, query, key),
            _ => 1.0,
        };
        sums.load[family * problem.models() + key] += used;
    }
    if prepared.has_groups() {
        sums.add_group(prepared.group(query), cost, quality);
    }
}

#[cfg(test)]
mod tests;
