//! Whole problems with every kind of limit in every mixture and at every scale, and all of their assignments.

use eccos_core::{Criterion, Goal, Inputs, Matrix, Options, Pooled, Priced, Problem, SideRow, Solution, solve};

use super::{Case, Rng};

/// What counts as kept where all assignments are gone through: an assignment that keeps every limit by the first factor must be
/// known to the solver, and one that breaks a limit by the second must not be returned.
pub const CLEAR: f64 = 1e-12;
pub const LOOSE: f64 = 2e-9;

/// A side row with its figures.
#[derive(Clone, Debug)]
pub struct Side {
    pub values: Vec<f64>,
    pub members: Option<Vec<bool>>,
    pub at_least: bool,
    pub mean: bool,
    pub limit: f64,
}

/// A price on load above a level, or below it.
#[derive(Clone, Debug)]
pub struct Charge {
    pub models: Vec<bool>,
    pub resource: usize,
    pub below: bool,
    pub level: f64,
    pub price: f64,
}

/// A problem with every kind of limit.
#[derive(Clone, Debug)]
pub struct Mixed {
    pub case: Case,
    /// Mask, resource, capacity.
    pub pools: Vec<(Vec<bool>, usize, f64)>,
    pub rows: Vec<Side>,
    pub charges: Vec<Charge>,
}

/// What an assignment of every query comes to.
pub struct Sums {
    pub cost: f64,
    pub quality: f64,
    /// The largest relative excess over a capacity or a pool, and over any other limit.
    pub over_capacity: f64,
    pub over_other: f64,
}

/// What all assignments say.
#[derive(Debug, Default)]
pub struct Truth {
    /// Some assignment keeps the capacities clearly; some does so within rounding.
    pub fits: bool,
    pub may_fit: bool,
    /// The best value among those that clearly keep every limit, and among those that do within rounding.
    pub best: Option<f64>,
    pub loose: Option<f64>,
}

fn mask(rng: &mut Rng, m: usize) -> Vec<bool> {
    let mut models: Vec<bool> = (0..m).map(|_| rng.chance(0.5)).collect();
    models[rng.below(m)] = true;
    models
}

/// A unit between 1e-9 and 1e9; 1 half of the time.
fn unit(rng: &mut Rng) -> f64 {
    if rng.chance(0.5) { 1.0 } else { 10f64.powi(rng.below(19) as i32 - 9) }
}

/// Figures of one of several kinds: small whole numbers, any, spread over decades, mostly equal.
fn figures(rng: &mut Rng, count: usize) -> Vec<f64> {
    let kind = rng.below(5);
    let draw = |rng: &mut Rng| match kind {
        0 => rng.below(5) as f64,
        1 => rng.unit(),
        2 => 10f64.powf(rng.unit() * 18.0 - 9.0),
        3 => f64::from(u8::from(rng.chance(0.3))),
        _ => 1.0 + rng.unit() * 1e-6,
    };
    (0..count).map(|_| draw(rng)).collect()
}

impl Mixed {
    pub fn draw(seed: u64) -> Self {
        let rng = &mut Rng(seed);
        let m = 1 + rng.below(4);
        let n = 1 + rng.below(if m < 3 { 8 } else { 5 });
        let money = unit(rng);
        let cost: Vec<f64> = figures(rng, n * m).iter().map(|c| c * money).collect();
        let fine = rng.chance(0.5);
        let quality = (0..n * m).map(|_| if fine { rng.unit() } else { rng.below(9) as f64 / 8.0 }).collect();
        // A target between what some assignment has and what another has, exactly that of one of them, or any.
        let some: Vec<usize> = (0..n).map(|_| rng.below(m)).collect();
        let mut case = Case::plain(n, m, cost, quality, Goal::Price { value: rng.unit() * 2.0 * money });
        if rng.chance(0.5) {
            case.resources = 1 + rng.below(2);
            let scale = unit(rng);
            case.load = Some(figures(rng, case.resources * n * m).iter().map(|w| w * scale).collect());
        }
        let sum = |of: &dyn Fn(usize, usize) -> f64, inside: &dyn Fn(usize) -> bool| -> f64 {
            some.iter().enumerate().filter(|(_, j)| inside(**j)).map(|(i, &j)| of(i, j)).sum()
        };
        let near = |rng: &mut Rng, x: f64| x * [1.0, 1.0, 0.5 + rng.unit(), 1.0 + 1e-7, 0.0][rng.below(5)];
        let (quality, cost) = (case.quality.clone(), case.cost.clone());
        match rng.below(3) {
            0 => {
                case.goal =
                    Goal::Quality { min: near(rng, sum(&|i, j| quality[i * m + j], &|_| true) / n as f64).min(1.0) }
            }
            1 => case.goal = Goal::Budget { max: near(rng, sum(&|i, j| cost[i * m + j], &|_| true)) },
            _ => {}
        }
        let held = case.clone();
        if rng.chance(0.5) {
            let capacity = (0..case.resources * m).map(|at| {
                let load = sum(&|i, j| held.load(at / m, i, j), &|j| j == at % m);
                if rng.chance(0.3) {
                    f64::INFINITY
                } else {
                    near(rng, load) + if rng.chance(0.3) { load } else { 0.0 }
                }
            });
            case.capacity = Some(capacity.collect());
        }
        if rng.chance(0.25) {
            let mut allowed: Vec<bool> = (0..n * m).map(|_| rng.chance(0.7)).collect();
            some.iter().enumerate().for_each(|(i, j)| allowed[i * m + j] = true);
            case.allowed = Some(allowed);
        }
        if rng.chance(0.2) {
            let g = 1 + rng.below(2);
            case.group = Some((0..n).map(|_| rng.below(g) as u32).collect());
            case.group_floor = Some((0..g).map(|_| if rng.chance(0.6) { rng.unit() } else { f64::NAN }).collect());
            let spent = sum(&|i, j| cost[i * m + j], &|_| true);
            case.group_budget =
                Some((0..g).map(|_| if rng.chance(0.6) { near(rng, spent) } else { f64::NAN }).collect());
        }
        let mut pools = vec![];
        let mut rows = vec![];
        let mut charges = vec![];
        if rng.chance(0.4) {
            for _ in 0..=rng.below(2) {
                let (models, resource) = (mask(rng, m), rng.below(case.resources));
                let load = sum(&|i, j| held.load(resource, i, j), &|j| models[j]);
                pools.push((models, resource, near(rng, load)));
            }
        }
        if rng.chance(0.4) {
            for _ in 0..=rng.below(2) {
                let scale = unit(rng) * if rng.chance(0.3) { -1.0 } else { 1.0 };
                let values: Vec<f64> = figures(rng, n * m).iter().map(|e| e * scale).collect();
                let members = rng.chance(0.3).then(|| (0..n).map(|_| rng.chance(0.6)).collect::<Vec<_>>());
                let counts = |i: usize| members.as_ref().is_none_or(|members| members[i]);
                let count = (0..n).filter(|&i| counts(i)).count();
                let (at_least, mean) = (rng.chance(0.4), rng.chance(0.5));
                let total = sum(&|i, j| if counts(i) { values[i * m + j] } else { 0.0 }, &|_| true);
                let limit = near(rng, if mean { total / count.max(1) as f64 } else { total });
                rows.push(Side { values, members, at_least, mean, limit });
            }
        }
        if rng.chance(0.3) && !matches!(case.goal, Goal::Budget { .. }) {
            for _ in 0..=rng.below(2) {
                let (models, resource) = (mask(rng, m), rng.below(case.resources));
                let load = sum(&|i, j| held.load(resource, i, j), &|j| models[j]);
                let price = rng.unit() * 2.0 * money / if load > 0.0 { load / n as f64 } else { 1.0 };
                charges.push(Charge { models, resource, below: rng.chance(0.4), level: near(rng, load), price });
            }
        }
        Self { case, pools, rows, charges }
    }

    pub fn solve(&self, options: &Options<'_>) -> Solution {
        let pools: Vec<Pooled<'_>> = self
            .pools
            .iter()
            .map(|(models, resource, capacity)| Pooled { models, resource: *resource, capacity: *capacity })
            .collect();
        let rows: Vec<SideRow<'_>> = self
            .rows
            .iter()
            .map(|row| SideRow {
                values: Matrix::F64(&row.values),
                members: row.members.as_deref(),
                at_least: row.at_least,
                mean: row.mean,
                limit: row.limit,
            })
            .collect();
        let priced: Vec<Priced<'_>> = self
            .charges
            .iter()
            .map(|of| Priced {
                models: &of.models,
                resource: of.resource,
                below: of.below,
                level: of.level,
                price: of.price,
            })
            .collect();
        let inputs = Inputs { pools: &pools, rows: &rows, priced: &priced, ..self.case.inputs() };
        solve(&Problem::new(inputs).expect("a well-formed case"), options).expect("well-formed options")
    }

    /// Sums of an assignment; queries at -1 count for nothing. `None` where a forbidden pair is taken.
    pub fn sums(&self, model: &[i32]) -> Option<Sums> {
        let case = &self.case;
        let (n, m) = (case.n, case.m);
        let taken: Vec<(usize, usize)> =
            model.iter().enumerate().filter(|(_, j)| **j >= 0).map(|(i, &j)| (i, j as usize)).collect();
        if taken.iter().any(|&(i, j)| !case.may(i, j)) {
            return None;
        }
        let mut sums = Sums { cost: 0.0, quality: 0.0, over_capacity: 0.0, over_other: 0.0 };
        let mut load = vec![0.0; case.resources * m];
        for &(i, j) in &taken {
            sums.cost += case.cost[i * m + j];
            sums.quality += case.quality[i * m + j];
            (0..case.resources).for_each(|r| load[r * m + j] += case.load(r, i, j));
        }
        let pooled =
            |models: &[bool], r: usize| -> f64 { (0..m).filter(|&j| models[j]).map(|j| load[r * m + j]).sum() };
        let excess = |used: f64, limit: f64, size: f64| {
            if used <= limit { 0.0 } else { (used - limit) / size.max(f64::MIN_POSITIVE) }
        };
        let whole = |capacity: f64| if case.load.is_none() { capacity.floor() } else { capacity };
        for (at, &used) in load.iter().enumerate() {
            let capacity = whole(case.capacity.as_ref().map_or(f64::INFINITY, |capacity| capacity[at]));
            sums.over_capacity = sums.over_capacity.max(excess(used, capacity, capacity));
        }
        for (models, r, capacity) in &self.pools {
            let capacity = whole(*capacity);
            sums.over_capacity = sums.over_capacity.max(excess(pooled(models, *r), capacity, capacity));
        }
        for of in &self.charges {
            let over = pooled(&of.models, of.resource) - of.level;
            sums.cost += of.price * if of.below { -over } else { over }.max(0.0);
        }
        for row in &self.rows {
            let inside = || taken.iter().filter(|(i, _)| row.members.as_ref().is_none_or(|members| members[*i]));
            let sign = if row.at_least { -1.0 } else { 1.0 };
            let count = inside().count() as f64;
            let used: f64 = inside().map(|&(i, j)| sign * row.values[i * m + j]).sum();
            let size: f64 = inside().map(|&(i, j)| row.values[i * m + j].abs()).sum();
            let limit = sign * row.limit * if row.mean { count } else { 1.0 };
            if count > 0.0 {
                sums.over_other = sums.over_other.max(excess(used, limit, limit.abs().max(size)));
            }
        }
        if let Some(group) = &case.group {
            for g in 0..case.group_floor.as_ref().map_or(0, Vec::len) {
                let inside = || taken.iter().filter(|(i, _)| group[*i] as usize == g).map(|&(i, j)| i * m + j);
                let (count, floor) = (inside().count() as f64, case.group_floor.as_ref().map_or(f64::NAN, |f| f[g]));
                let budget = case.group_budget.as_ref().map_or(f64::NAN, |b| b[g]);
                let quality: f64 = inside().map(|at| case.quality[at]).sum();
                let cost: f64 = inside().map(|at| case.cost[at]).sum();
                if count > 0.0 {
                    // A comparison with no number is false: no limit.
                    let short = if floor > quality / count { floor - quality / count } else { 0.0 };
                    let over = if cost > budget { excess(cost, budget, budget) } else { 0.0 };
                    sums.over_other = sums.over_other.max(short).max(over);
                }
            }
        }
        let missed = match case.goal {
            Goal::Quality { min } => (min - sums.quality / taken.len().max(1) as f64).max(0.0),
            Goal::Budget { max } => excess(sums.cost, max, max),
            Goal::Price { .. } => 0.0,
        };
        sums.over_other = sums.over_other.max(missed);
        let _ = n;
        Some(sums)
    }

    pub fn value(criterion: Criterion, sums: &Sums, served: usize) -> f64 {
        match criterion {
            Criterion::Cost => sums.cost,
            Criterion::Quality => sums.quality / served as f64,
            Criterion::Value(value) => sums.cost - value * sums.quality,
        }
    }

    pub fn truth(&self) -> Truth {
        let criterion = self.case.criterion();
        let mut truth = Truth::default();
        let mut model = vec![0i32; self.case.n];
        loop {
            if let Some(sums) = self.sums(&model) {
                let value = Self::value(criterion, &sums, self.case.n);
                let better = |b: f64| if criterion == Criterion::Quality { value > b } else { value < b };
                truth.fits |= sums.over_capacity <= 1e-15;
                truth.may_fit |= sums.over_capacity <= 1e-13;
                if sums.over_capacity <= 1e-15 && sums.over_other <= CLEAR && truth.best.is_none_or(better) {
                    truth.best = Some(value);
                }
                if sums.over_capacity <= 1e-13 && sums.over_other <= LOOSE && truth.loose.is_none_or(better) {
                    truth.loose = Some(value);
                }
            }
            let Some(at) = model.iter().position(|&j| (j as usize) + 1 < self.case.m) else { return truth };
            model[..at].fill(0);
            model[at] += 1;
        }
    }
}
