//! The problem in the terms of the method: one thing to minimise, rows to keep below their limits.
//!
//! ```text
//! min sum p[i,j] x[i,j]   s.t.   sum A_k(i,j) x[i,j] <= b_k   for every row k,   one model a query
//! ```
//!
//! Row 0 is the requirement (`A = -q`), then come the capacities and pools that can bind, then the limits of groups. Costs,
//! qualities and loads are multiplied by powers of two, so that a typical row has range 1 and no bit is lost.

use crate::problem::{Criterion, Goal, Label, Problem};

/// Marks "no row": a capacity that cannot bind, a group without a limit.
pub(crate) const NO_ROW: u16 = u16::MAX;
/// The value of a pair that may not be chosen: no step along any direction makes it the least.
pub(crate) const FORBIDDEN: f64 = f64::INFINITY;
/// An exactly attainable requirement must not fail on rounding: it is relaxed by this inside, checked with 1e-9 outside.
pub(super) const RELAX: f64 = 2e-10;
/// Rows looked at to find the scales.
pub(super) const SAMPLE: usize = 64;

/// Which price a term takes: that of the pair's model, or that of the query's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Model,
    Group,
}

/// What the coefficients of a term are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Every pair uses one unit.
    Unit,
    /// The load of this resource.
    Load(usize),
    /// Minus the quality.
    MinusQuality,
    /// The cost.
    Cost,
    /// The figure of this side row.
    Side(usize),
    /// The load that is priced here, or minus it.
    Priced(usize),
}

impl Source {
    /// True for what may never be overstepped: the capacities.
    pub fn is_capacity(self) -> bool {
        matches!(self, Self::Unit | Self::Load(_))
    }
}

/// One family of rows beside the requirement: every pair has one coefficient and at most one row in it.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub by: By,
    pub source: Source,
    /// The row for each model or group, or [`NO_ROW`].
    pub rows: Vec<u16>,
    /// Power of two applied to the coefficients.
    pub scale: f64,
    /// True when several models have the same row.
    pub shared: bool,
}

/// The limits of the groups of one kind: source of the coefficients, label, scale, and each group's limit.
type Limits = (Source, fn(usize) -> Label, f64, Vec<Option<f64>>);

/// The problem over the served queries, scaled.
#[derive(Clone, Debug)]
pub(crate) struct Prepared<'a> {
    pub problem: &'a Problem<'a>,
    /// Served queries, ascending; `None` when that is all of them.
    pub served: Option<&'a [u32]>,
    pub criterion: Criterion,
    /// Powers of two applied to the objective and to the requirement row.
    pub scale_p: f64,
    pub scale_q: f64,
    pub terms: Vec<Term>,
    /// Limits `b_k` of all rows; row 0 is the requirement.
    pub limit: Vec<f64>,
    /// What each row limits, and the power of two applied to it.
    pub labels: Vec<(Label, f64)>,
    /// The most that each multiplier may be: infinite, or the price of the row.
    pub ceiling: Vec<f64>,
}

impl<'a> Prepared<'a> {
    /// `requirement`: the limit of the criterion's counterpart (mean quality, or dollars), or none.
    pub fn new(
        problem: &'a Problem<'a>,
        served: Option<&'a [u32]>,
        criterion: Criterion,
        requirement: Option<f64>,
    ) -> Self {
        let mut prepared = Self {
            problem,
            served,
            criterion,
            scale_p: 1.0,
            scale_q: 0.0,
            terms: vec![],
            limit: vec![],
            labels: vec![],
            ceiling: vec![],
        };
        prepared.add_row(Label::Requirement, 0.0, 0.0);
        let n = prepared.len();
        let (objective, cost, quality) = prepared.ranges();
        prepared.scale_p = power(objective);
        if let Some(wanted) = requirement.filter(|wanted| wanted.is_finite()) {
            let (scale, floor) = match criterion {
                Criterion::Cost | Criterion::Value(_) => (power(quality), wanted * n as f64),
                Criterion::Quality => (power(cost), -wanted),
            };
            prepared.scale_q = scale;
            prepared.limit[0] = -(floor * scale - RELAX * (floor * scale).abs());
            prepared.labels[0].1 = scale;
        }
        prepared.add_loads();
        prepared.add_groups(power(quality), power(cost));
        // In this order a pass over the queries sums them up.
        prepared.add_priced();
        prepared.add_side_rows();
        prepared
    }

    /// The objective that a caller stated, over the served queries.
    pub fn stated(problem: &'a Problem<'a>, served: Option<&'a [u32]>) -> Self {
        match problem.goal() {
            Goal::Quality { min } => Self::new(problem, served, Criterion::Cost, Some(min)),
            Goal::Budget { max } => Self::new(problem, served, Criterion::Quality, Some(max)),
            Goal::Price { value } => Self::new(problem, served, Criterion::Value(value), None),
        }
    }

    /// Number of served queries.
    pub fn len(&self) -> usize {
        self.served.map_or(self.problem.queries(), <[u32]>::len)
    }

    /// The query at a place in the served list.
    #[inline]
    pub fn query(&self, place: usize) -> usize {
        self.served.map_or(place, |served| served[place] as usize)
    }

    /// Number of rows, the requirement included.
    pub fn rows(&self) -> usize {
        self.limit.len()
    }

    /// Weights of cost and quality in a pair's value: `v = cost_weight * c - quality_weight * a + terms`.
    #[inline]
    pub fn weights(&self, price: f64) -> (f64, f64) {
        match self.criterion {
            Criterion::Cost => (self.scale_p, price * self.scale_q),
            Criterion::Quality => (price * self.scale_q, self.scale_p),
            Criterion::Value(value) => (self.scale_p, value * self.scale_p),
        }
    }

    /// Objective and requirement coefficient (p, q) of an allowed pair.
    #[inline]
    pub fn pair(&self, query: usize, model: usize) -> (f64, f64) {
        self.scaled(self.problem.cost(query, model), self.problem.quality(query, model))
    }

    /// The same, given the cost and the quality of the pair.
    #[inline]
    pub fn scaled(&self, c: f64, a: f64) -> (f64, f64) {
        match self.criterion {
            Criterion::Cost => (c * self.scale_p, a * self.scale_q),
            Criterion::Quality => (-a * self.scale_p, -c * self.scale_q),
            Criterion::Value(value) => ((c - value * a) * self.scale_p, 0.0),
        }
    }

    /// What the objective of a pair is made of, scaled: its rounding is relative to this.
    #[inline]
    pub fn magnitude(&self, c: f64, a: f64) -> f64 {
        self.scale_p
            * match self.criterion {
                Criterion::Cost => c,
                Criterion::Quality => a,
                Criterion::Value(value) => c + value * a,
            }
    }

    /// Coefficient of an allowed pair in a term.
    #[inline]
    pub fn coefficient(&self, term: &Term, query: usize, model: usize) -> f64 {
        match term.source {
            Source::Unit => 1.0,
            Source::Load(resource) => self.problem.load(resource, query, model) * term.scale,
            Source::MinusQuality => -self.problem.quality(query, model) * term.scale,
            Source::Cost => self.problem.cost(query, model) * term.scale,
            Source::Side(row) => self.problem.side(row, query, model) * term.scale,
            Source::Priced(at) => self.problem.priced(at, query, model) * term.scale,
        }
    }

    /// The row of a pair in a term, or [`NO_ROW`].
    #[inline]
    pub fn row(&self, term: &Term, query: usize, model: usize) -> u16 {
        match term.by {
            By::Model => term.rows[model],
            By::Group => term.rows[self.group(query)],
        }
    }

    /// The group of a query; only asked when there are groups.
    #[inline]
    pub fn group(&self, query: usize) -> usize {
        self.problem.input.group.map_or(0, |group| group[query] as usize)
    }

    /// True when all the terms are one family of request slots (or there is none): the fast passes apply.
    pub fn is_unit(&self) -> bool {
        self.terms.len() <= 1 && self.terms.iter().all(|term| term.source == Source::Unit)
    }

    /// True when groups have limits of their own.
    pub fn has_groups(&self) -> bool {
        self.terms.iter().any(|term| term.by == By::Group)
    }

    /// True when there is nothing but the objective, the capacities and the groups.
    pub fn is_extreme(&self) -> bool {
        self.scale_q == 0.0
    }

    /// Typical range within a query of the objective, the cost and the quality, over a sample; their typical magnitude
    /// where the range vanishes.
    fn ranges(&self) -> (f64, f64, f64) {
        let cost = self.range(|c, _| c);
        let quality = self.range(|_, a| a);
        let objective = match self.criterion {
            Criterion::Cost => cost,
            Criterion::Quality => quality,
            Criterion::Value(value) => self.range(|c, a| c - value * a),
        };
        (objective, cost, quality)
    }

    fn range(&self, of: impl Fn(f64, f64) -> f64) -> f64 {
        let (n, m) = (self.len(), self.problem.models());
        let mut range = Range::default();
        for place in (0..n).step_by((n / SAMPLE).max(1)) {
            let query = self.query(place);
            let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
            for model in (0..m).filter(|&model| self.problem.may(query, model)) {
                let x = of(self.problem.cost(query, model), self.problem.quality(query, model));
                (low, high) = (low.min(x), high.max(x));
            }
            range.add(low, high);
        }
        range.typical()
    }

    fn add_loads(&mut self) {
        let problem = self.problem;
        let (n, m) = (self.len() as f64, problem.models());
        if !problem.has_capacities() {
            return;
        }
        for resource in 0..problem.input.resources {
            let weighted = problem.input.load.is_some();
            let scale = if weighted { power(self.mean_load(resource)) } else { 1.0 };
            let mut rows = vec![NO_ROW; m];
            for (model, row) in rows.iter_mut().enumerate() {
                let capacity = problem.whole_capacity(resource, model);
                // A capacity that all queries together cannot reach needs no row.
                if capacity.is_finite() && (weighted || capacity < n) {
                    *row = self.add_row(Label::Capacity(resource * m + model), scale, capacity * scale);
                }
            }
            let source = if weighted { Source::Load(resource) } else { Source::Unit };
            let first = self.terms.len();
            if rows.iter().any(|&row| row != NO_ROW) {
                self.terms.push(Term { by: By::Model, source, rows, scale, shared: false });
            }
            self.add_pools(resource, first, (source, scale));
        }
    }

    /// The pools of a resource, each in the first family whose models it leaves to others.
    fn add_pools(&mut self, resource: usize, first: usize, (source, scale): (Source, f64)) {
        let problem = self.problem;
        let n = self.len() as f64;
        for (at, pool) in problem.input.pools.iter().enumerate().filter(|(_, pool)| pool.resource == resource) {
            let capacity = problem.whole_pool(at);
            if !capacity.is_finite() || source == Source::Unit && capacity >= n {
                continue;
            }
            let row = self.add_row(Label::Pool(at), scale, capacity * scale);
            let free =
                |term: &Term| term.rows.iter().zip(pool.models).all(|(&row, &inside)| !inside || row == NO_ROW);
            let place = (first..self.terms.len()).find(|&t| free(&self.terms[t])).unwrap_or_else(|| {
                let rows = vec![NO_ROW; problem.models()];
                self.terms.push(Term { by: By::Model, source, rows, scale, shared: false });
                self.terms.len() - 1
            });
            let term = &mut self.terms[place];
            term.shared |= pool.models.iter().filter(|&&inside| inside).count() > 1;
            for (slot, _) in term.rows.iter_mut().zip(pool.models).filter(|(_, inside)| **inside) {
                *slot = row;
            }
        }
    }

    pub(super) fn add_row(&mut self, label: Label, scale: f64, limit: f64) -> u16 {
        self.limit.push(limit);
        self.labels.push((label, scale));
        self.ceiling.push(f64::INFINITY);
        self.limit.len() as u16 - 1
    }

    pub(super) fn mean_load(&self, resource: usize) -> f64 {
        let (n, m) = (self.len(), self.problem.models());
        let (mut sum, mut count) = (0.0, 0.0);
        for place in (0..n).step_by((n / SAMPLE).max(1)) {
            let query = self.query(place);
            for model in (0..m).filter(|&model| self.problem.may(query, model)) {
                sum += self.problem.load(resource, query, model);
                count += 1.0;
            }
        }
        if count > 0.0 { sum / count } else { 1.0 }
    }

    fn add_groups(&mut self, quality: f64, cost: f64) {
        let problem = self.problem;
        let groups = problem.groups;
        let mut size = vec![0.0; groups];
        if groups > 0 {
            for place in 0..self.len() {
                size[self.group(self.query(place))] += 1.0;
            }
        }
        let limits: [Limits; 2] = [
            (
                Source::MinusQuality,
                Label::GroupQuality,
                quality,
                (0..groups).map(|g| problem.group_floor(g).map(|floor| -floor * size[g])).collect(),
            ),
            (Source::Cost, Label::GroupBudget, cost, (0..groups).map(|g| problem.group_budget(g)).collect()),
        ];
        for (source, label, scale, limit) in limits {
            let mut rows = vec![NO_ROW; groups];
            for (group, limit) in limit.iter().enumerate().filter(|(g, _)| size[*g] > 0.0) {
                if let Some(limit) = limit {
                    rows[group] = self.add_row(label(group), scale, limit * scale + RELAX * (limit * scale).abs());
                }
            }
            if rows.iter().any(|&row| row != NO_ROW) {
                self.terms.push(Term { by: By::Group, source, rows, scale, shared: false });
            }
        }
    }
}

/// Width and magnitude of the rows of a sample, which has fewer than twice [`SAMPLE`] of them.
struct Range {
    rows: usize,
    widths: [f64; 2 * SAMPLE],
    magnitudes: [f64; 2 * SAMPLE],
}

impl Default for Range {
    fn default() -> Self {
        Self { rows: 0, widths: [0.0; 2 * SAMPLE], magnitudes: [0.0; 2 * SAMPLE] }
    }
}

impl Range {
    fn add(&mut self, low: f64, high: f64) {
        if high >= low {
            self.widths[self.rows] = high - low;
            self.magnitudes[self.rows] = high.abs().max(low.abs());
            self.rows += 1;
        }
    }

    /// The median width; the median magnitude where widths vanish. A few enormous rows move neither.
    fn typical(mut self) -> f64 {
        let width = median(&mut self.widths[..self.rows]);
        // Magnitudes are only looked at in full where they may be needed.
        let largest = self.magnitudes[..self.rows].iter().copied().fold(0.0, f64::max);
        if self.rows > 0 && width > 1e-9 * largest {
            return width;
        }
        let magnitude = median(&mut self.magnitudes[..self.rows]);
        if width > 1e-9 * magnitude { width } else { magnitude }
    }
}

/// The upper median; 1 when there is nothing.
fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 1.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// The power of two that brings `size` near 1.
pub(super) fn power(size: f64) -> f64 {
    if size > 0.0 && size.is_finite() { (-size.log2().round().clamp(-1000.0, 1000.0)).exp2() } else { 1.0 }
}
