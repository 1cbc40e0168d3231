//! One pass over many queries at given multipliers: which of them cannot change their model inside a box around them.
//!
//! A query with key k is *safe* when for every other model j
//!
//! ```text
//! v[i,j] - v[i,k] > sum_r box_r |A_r(i,j) - A_r(i,k)|
//! ```
//!
//! Safe queries are summed up, the others are listed. The pass also returns `r(y)` of all queries. With one request or one
//! load a query the pass runs in single precision with a margin that covers its rounding; sums are always taken in
//! double precision from the data as given.

use crate::parallel;
use crate::prepare::{By, Goal, NO_ROW, Prepared, Source};
use crate::problem::Matrix;
use crate::relax::pair_value;
use crate::simd::rows::{self, Kernel, Lists};

/// What a pass found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Screened {
    /// `sum A_k` over all queries at their keys, and over the safe ones.
    pub all: Vec<f64>,
    pub safe: Vec<f64>,
    /// Objective of the safe queries at their keys.
    pub held: f64,
    /// The places of the others, ascending.
    pub open: Vec<u32>,
}

/// What a chunk of rows found, in the caller's units.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Chunk {
    pub key: Vec<u8>,
    pub open: Vec<u32>,
    /// Cost, quality and load (by model) at the keys: of all rows, and of the safe ones.
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
    /// Rows of groups, for programs that have them.
    pub rows: Vec<f64>,
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
    let count = places.map_or(prepared.len(), <[u32]>::len);
    let threads = parallel::threads(threads, count);
    let kernel = kernel(prepared, y, radius);
    let chunks = parallel::chunks(count, threads, |range| match &kernel {
        Some(kernel) => {
            let lists = Lists { places, served: prepared.served };
            rows::screen(kernel, &lists, range, |query| exact_row(prepared, query, y, radius))
        }
        None => exact_chunk(prepared, places, range, y, radius),
    });
    let mut out = Screened { all: vec![0.0; y.len()], safe: vec![0.0; y.len()], ..Screened::default() };
    out.open.reserve_exact(chunks.iter().map(|chunk| chunk.open.len()).sum());
    let mut at = 0;
    for chunk in chunks {
        match places {
            None => key[at..at + chunk.key.len()].copy_from_slice(&chunk.key),
            Some(places) => {
                for (&place, &j) in places[at..].iter().zip(&chunk.key) {
                    key[place as usize] = j;
                }
            }
        }
        at += chunk.key.len();
        out.open.extend_from_slice(&chunk.open);
        add_rows(prepared, &chunk.all, &mut out.all);
        add_rows(prepared, &chunk.safe, &mut out.safe);
        out.held += objective(prepared, &chunk.safe);
    }
    out
}

/// Sums at keys in the terms of the program's rows.
fn add_rows(prepared: &Prepared<'_>, sums: &Sums, rows: &mut [f64]) {
    rows[0] += match prepared.goal {
        Goal::Cost => -sums.quality * prepared.scale_q,
        Goal::Quality => sums.cost * prepared.scale_q,
        Goal::Value(_) => 0.0,
    };
    let m = prepared.problem.models();
    for (t, term) in prepared.terms.iter().filter(|term| term.by == By::Model).enumerate() {
        for (j, &row) in term.rows.iter().enumerate() {
            if row != NO_ROW {
                rows[row as usize] += sums.load[t * m + j] * term.scale;
            }
        }
    }
    for (row, sum) in rows.iter_mut().zip(&sums.rows) {
        *row += sum;
    }
}

fn objective(prepared: &Prepared<'_>, sums: &Sums) -> f64 {
    prepared.scale_p
        * match prepared.goal {
            Goal::Cost => sums.cost,
            Goal::Quality => -sums.quality,
            Goal::Value(value) => sums.cost - value * sums.quality,
        }
}

/// The single-precision kernel, where it applies: at most one load, no groups, scales within its range.
fn kernel<'a>(prepared: &Prepared<'a>, y: &[f64], radius: &[f64]) -> Option<Kernel<'a>> {
    let problem = prepared.problem;
    let m = problem.models();
    let term = prepared.terms.first();
    let single = prepared.terms.len() <= 1 && term.is_none_or(|term| term.by == By::Model);
    let (cost_weight, quality_weight) = prepared.weights(y[0]);
    let same_type = |other: &Matrix<'_>| std::mem::discriminant(other) == std::mem::discriminant(&problem.input.cost);
    let typed = same_type(&problem.input.quality) && problem.input.load.as_ref().is_none_or(same_type);
    let in_range = |x: f64| x == 0.0 || (1e-30..=1e30).contains(&x);
    let load_scale = term.map_or(1.0, |term| term.scale);
    let box_weight = radius[0] * prepared.scale_q;
    if !(single && typed && [cost_weight, quality_weight, load_scale, box_weight].into_iter().all(in_range)) {
        return None;
    }
    let load = match term.map(|term| term.source) {
        Some(Source::Load(resource)) => Some((problem.input.load?, resource)),
        _ => None,
    };
    // The box is widened by more than its own rounding.
    let widen = 1.0 + 4e-6;
    let spread = |from: &[f64], factor: f64| -> Vec<f32> {
        let at = |j: usize| match term.map(|term| term.rows[j]) {
            Some(row) if row != NO_ROW => (from[row as usize] * load_scale * factor) as f32,
            _ => 0.0,
        };
        (0..m).map(at).collect()
    };
    // |p| and |lambda q| are at most |v| plus the part of v that is bounded: lambda (quality mode) or 1 (budget mode).
    let bounded = 1.0 + quality_weight;
    Some(Kernel {
        queries: problem.queries(),
        models: m,
        cost: problem.input.cost,
        quality: problem.input.quality,
        load,
        allowed: problem.usable.as_deref(),
        cost_weight: cost_weight as f32,
        quality_weight: quality_weight as f32,
        box_on_cost: prepared.goal == Goal::Quality,
        box_weight: (box_weight * widen) as f32,
        price: spread(y, 1.0),
        radius: spread(radius, widen),
        bounded: bounded as f32,
    })
}

/// One row in double precision: key, and whether it is safe.
pub(crate) fn exact_row(prepared: &Prepared<'_>, query: usize, y: &[f64], radius: &[f64]) -> (usize, bool) {
    let (least, key) = crate::relax::least_value(prepared, query, y);
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
            NO_ROW => (0.0, 0.0),
            row => (radius[row as usize], prepared.coefficient(term, query, model)),
        };
        let (a, b) = (part(j), part(key));
        sum += match term.by {
            By::Model => a.0 * a.1 + b.0 * b.1,
            By::Group => a.0 * (a.1 - b.1).abs(),
        };
    }
    sum
}

/// A chunk in double precision, for problems with several loads or with groups.
fn exact_chunk(
    prepared: &Prepared<'_>,
    places: Option<&[u32]>,
    range: std::ops::Range<usize>,
    y: &[f64],
    radius: &[f64],
) -> Chunk {
    let m = prepared.problem.models();
    let loads = prepared.terms.iter().filter(|term| term.by == By::Model).count();
    let empty = || Sums { load: vec![0.0; loads * m], rows: vec![0.0; y.len()], ..Sums::default() };
    let mut chunk = Chunk { all: empty(), safe: empty(), ..Chunk::default() };
    for at in range {
        let place = places.map_or(at, |places| places[at] as usize);
        let query = prepared.query(place);
        let (key, safe) = exact_row(prepared, query, y, radius);
        chunk.key.push(key as u8);
        add_exact(prepared, query, key, &mut chunk.all);
        if safe {
            add_exact(prepared, query, key, &mut chunk.safe);
        } else {
            chunk.open.push(place as u32);
        }
    }
    chunk
}

fn add_exact(prepared: &Prepared<'_>, query: usize, key: usize, sums: &mut Sums) {
    let problem = prepared.problem;
    sums.cost += problem.cost(query, key);
    sums.quality += problem.quality(query, key);
    let mut family = 0;
    for term in &prepared.terms {
        match term.by {
            By::Model => {
                let used = match term.source {
                    Source::Load(resource) => problem.load(resource, query, key),
                    _ => 1.0,
                };
                sums.load[family * problem.models() + key] += used;
                family += 1;
            }
            By::Group => {
                let row = prepared.row(term, query, key);
                if row != NO_ROW {
                    sums.rows[row as usize] += prepared.coefficient(term, query, key);
                }
            }
        }
    }
}
