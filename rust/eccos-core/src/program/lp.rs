//! The linear program over some of the queries, column by column, with the one-model-a-query rows left implicit.
//!
//! For multipliers `y >= 0` a pair has the value `v[i,j] = p[i,j] + sum_k y_k A_k(i,j)`, every query takes its model of
//! least value (its *key*), and
//!
//! ```text
//! g(y) = sum_i min_j v[i,j] - sum_k y_k b_k        (concave, piecewise linear)
//! r(y) = sum_i A(i, key_i) - b                     (a supergradient)
//! ```

use super::prepare::{By, FORBIDDEN, NO_ROW, Prepared, Source};
use super::values::least_values;
use crate::problem::with_types;

/// Rows of a block in the vector passes; columns are padded to a multiple of it.
pub(crate) const LANES: usize = 16;
/// Size of the downward perturbation of p that breaks ties: relative to the pair's own magnitude, so that the program's
/// optimum stays within as much of the optimum of the data, whatever their range; and what a magnitude of 0 counts as.
const PERTURBATION: f64 = 5e-10;
const LEAST: f64 = 1e-3;
/// The most that the perturbation takes from a pair of magnitude 0.
pub(crate) const PERTURBED_ZERO: f64 = PERTURBATION * LEAST;

/// One family of rows in this program.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    pub by: By,
    /// The row for each model or group.
    pub rows: Vec<u16>,
    /// Column-major coefficients; empty when all are 1.
    pub coef: Vec<f64>,
    /// True when several models have the same row.
    pub shared: bool,
}

/// The program. Columns are contiguous: entry (i, j) lies at `j * stride + i`.
#[derive(Clone, Debug)]
pub(crate) struct Lp {
    /// Queries.
    pub n: usize,
    /// Models.
    pub m: usize,
    pub stride: usize,
    pub p: Vec<f64>,
    pub q: Vec<f64>,
    pub families: Vec<Family>,
    /// Group of each query; empty without groups.
    pub group: Vec<u32>,
    /// `b_k`.
    pub limit: Vec<f64>,
    /// Upper limits of the multipliers (infinite unless rows may be bought off).
    pub ceiling: Vec<f64>,
}

/// Keeps a program's sparse vectors small: at most a few rows touch a pair.
pub(crate) type Sparse = Vec<(usize, f64)>;

impl Lp {
    /// The program over the given places of the served list.
    pub fn build(prepared: &Prepared<'_>, places: impl ExactSizeIterator<Item = usize>, limit: Vec<f64>) -> Self {
        let (n, m) = (places.len(), prepared.problem.models());
        let stride = stride(n);
        let families = prepared.terms.iter().map(|term| Family {
            by: term.by,
            rows: term.rows.clone(),
            coef: if term.source == Source::Unit { vec![] } else { vec![0.0; stride * m] },
            shared: term.shared,
        });
        let ceiling = prepared.ceiling.clone();
        let mut lp = Self {
            n,
            m,
            stride,
            p: vec![FORBIDDEN; stride * m],
            q: vec![0.0; stride * m],
            families: families.collect(),
            group: vec![],
            limit,
            ceiling,
        };
        let queries: Vec<usize> = places.map(|place| prepared.query(place)).collect();
        if prepared.has_groups() {
            lp.group.extend(queries.iter().map(|&query| prepared.group(query) as u32));
        }
        let input = &prepared.problem.input;
        with_types!(input.cost, input.quality, |cost, quality| lp.fill(prepared, &queries, cost, quality));
        lp.p[n..stride].fill(0.0);
        lp
    }

    /// Turns the rows of the queries into columns, a block at a time.
    fn fill<C, Q>(&mut self, prepared: &Prepared<'_>, queries: &[usize], cost: &[C], quality: &[Q])
    where
        C: Copy + Into<f64>,
        Q: Copy + Into<f64>,
    {
        let (m, stride, width) = (self.m, self.stride, prepared.problem.width());
        for (b, block) in queries.chunks(LANES).enumerate() {
            for j in 0..m {
                let (at, column) = (j * stride + b * LANES, prepared.problem.column(j));
                let (ps, qs) = (&mut self.p[at..at + block.len()], &mut self.q[at..at + block.len()]);
                for ((p, q), &query) in ps.iter_mut().zip(qs).zip(block) {
                    if prepared.problem.may(query, j) {
                        let of = query * width + column;
                        let pair = prepared.scaled(cost[of].into(), quality[of].into());
                        let size = prepared.magnitude(cost[of].into(), quality[of].into());
                        let size = if size > 0.0 { size } else { LEAST };
                        (*p, *q) = (pair.0 - PERTURBATION * size * hash(query as u64, j as u64), pair.1);
                    }
                }
                for (family, term) in self.families.iter_mut().zip(&prepared.terms) {
                    if !family.coef.is_empty() {
                        for (coef, &query) in family.coef[at..].iter_mut().zip(block) {
                            if prepared.problem.may(query, j) {
                                *coef = prepared.coefficient(term, query, j);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The program on some rows of this one, the others held at `model`; and the objective of the others.
    pub fn restrict(&self, rows: &[u32], model: &[u8]) -> (Self, f64) {
        let (n, m) = (rows.len(), self.m);
        let stride = stride(n);
        let pick = |column: &[f64], empty: f64| -> Vec<f64> {
            if column.is_empty() {
                return vec![];
            }
            let mut out = vec![empty; stride * m];
            for j in 0..m {
                let (from, to) = (&column[j * self.stride..], &mut out[j * stride..]);
                for (slot, &i) in to.iter_mut().zip(rows) {
                    *slot = from[i as usize];
                }
            }
            out
        };
        let mut limit = self.limit.clone();
        let mut held = 0.0;
        let mut inside = rows.iter().copied().peekable();
        for i in 0..self.n {
            if inside.next_if_eq(&(i as u32)).is_none() {
                let j = model[i] as usize;
                held += self.p[j * self.stride + i];
                self.each(i, j, |k, a| limit[k] -= a);
            }
        }
        let mut p = pick(&self.p, FORBIDDEN);
        p[n..stride].fill(0.0);
        let families = self.families.iter().map(|family| Family {
            by: family.by,
            rows: family.rows.clone(),
            coef: pick(&family.coef, 0.0),
            shared: family.shared,
        });
        let group =
            if self.group.is_empty() { vec![] } else { rows.iter().map(|&i| self.group[i as usize]).collect() };
        let lp = Self {
            n,
            m,
            stride,
            p,
            q: pick(&self.q, 0.0),
            families: families.collect(),
            group,
            limit,
            ceiling: self.ceiling.clone(),
        };
        (lp, held)
    }

    /// Number of multipliers.
    pub fn rows(&self) -> usize {
        self.limit.len()
    }

    /// True when the only family is requests, one per query.
    pub fn is_unit(&self) -> bool {
        self.families.len() <= 1 && self.families.iter().all(|f| f.coef.is_empty())
    }

    /// The coefficient of a pair in a family and its row, if it has one.
    #[inline(always)]
    fn entry(&self, family: &Family, i: usize, j: usize) -> Option<(usize, f64)> {
        let row = match family.by {
            By::Model => family.rows[j],
            By::Group => family.rows[self.group[i] as usize],
        };
        if row == NO_ROW {
            return None;
        }
        let coef = if family.coef.is_empty() { 1.0 } else { family.coef[j * self.stride + i] };
        Some((row as usize, coef))
    }

    /// Calls `visit(k, A_k(i, j))` for every row that the pair touches.
    #[inline(always)]
    pub fn each(&self, i: usize, j: usize, mut visit: impl FnMut(usize, f64)) {
        visit(0, -self.q[j * self.stride + i]);
        for family in &self.families {
            if let Some((row, coef)) = self.entry(family, i, j) {
                visit(row, coef);
            }
        }
    }

    /// `sum_k y_k A_k(i, j)`: the part of a value that depends on the multipliers, or its rate along a direction.
    #[inline(always)]
    pub fn priced(&self, y: &[f64], i: usize, j: usize) -> f64 {
        let mut sum = -y[0] * self.q[j * self.stride + i];
        for family in &self.families {
            if let Some((row, coef)) = self.entry(family, i, j) {
                sum += y[row] * coef;
            }
        }
        sum
    }

    /// `v[i,j]` at multipliers `y`.
    #[inline(always)]
    pub fn value(&self, y: &[f64], i: usize, j: usize) -> f64 {
        self.p[j * self.stride + i] + self.priced(y, i, j)
    }

    /// True when the pair may be chosen.
    #[inline(always)]
    pub fn may(&self, i: usize, j: usize) -> bool {
        self.p[j * self.stride + i] < FORBIDDEN
    }

    /// Gradient of `v[i,j] - v[i,key]`.
    pub fn normal(&self, i: usize, key: usize, j: usize, out: &mut Sparse) {
        out.clear();
        let mut add = |k: usize, a: f64| match out.iter_mut().find(|(row, _)| *row == k) {
            Some((_, sum)) => *sum += a,
            None => out.push((k, a)),
        };
        self.each(i, j, &mut add);
        self.each(i, key, |k, a| add(k, -a));
    }

    /// Keys at `y`, and `g(y)`.
    pub fn keys(&self, y: &[f64], key: &mut [u8]) -> f64 {
        let mut sum = -dot(y, &self.limit);
        if self.is_unit() {
            let prices = self.model_prices(y);
            sum += least_values(self, y[0], &prices, key);
            return sum;
        }
        for (i, slot) in key.iter_mut().enumerate() {
            let (mut best, mut model) = (f64::INFINITY, 0);
            for j in 0..self.m {
                let value = self.value(y, i, j);
                if value < best {
                    (best, model) = (value, j);
                }
            }
            *slot = model as u8;
            sum += best;
        }
        sum
    }

    /// The multiplier of every model's slots, 0 where there is no row (unit programs).
    pub fn model_prices(&self, y: &[f64]) -> Vec<f64> {
        let mut prices = vec![0.0; self.m];
        if let Some(family) = self.families.first() {
            for (price, &row) in prices.iter_mut().zip(&family.rows) {
                *price = if row == NO_ROW { 0.0 } else { y[row as usize] };
            }
        }
        prices
    }

    /// `r = sum_i A(i, key_i) - b`.
    pub fn residual(&self, key: &[u8]) -> Vec<f64> {
        let mut r: Vec<f64> = self.limit.iter().map(|b| -b).collect();
        for (i, &j) in key.iter().enumerate() {
            self.each(i, j as usize, |k, a| r[k] += a);
        }
        r
    }

    /// The objective of an assignment of all rows of this program.
    pub fn objective(&self, model: &[u8]) -> f64 {
        model.iter().enumerate().map(|(i, &j)| self.p[j as usize * self.stride + i]).sum()
    }
}

/// Length of a column: whole blocks, an odd number of them, because columns a power of two apart share their places in the
/// cache.
fn stride(n: usize) -> usize {
    (n.div_ceil(LANES) | 1) * LANES
}

/// A dot product in eight fixed lanes: the same sum on every machine, and short chains of additions.
#[inline]
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let mut sum = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum::<f64>();
    for (x, y) in a8.zip(b8) {
        for l in 0..8 {
            lanes[l] += x[l] * y[l];
        }
    }
    sum += ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
    sum
}

/// A number in [0, 1) that depends on both indices only.
pub(crate) fn hash(i: u64, j: u64) -> f64 {
    let salt = j.wrapping_add(0x7F4A_7C15_9E37_79B9).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mut z = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 53) as f64
}
