//! What an assignment costs and uses, in double precision on the data as given.

use crate::problem::{Pooled, Priced, Problem};
use crate::program::{By, Prepared, Source};
use crate::screen::Sums;
use crate::tolerance::{LOAD, REQUIREMENT};

/// Sums over the assigned queries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub assigned: usize,
    pub cost: f64,
    pub quality: f64,
    /// (R, M)
    pub load: Vec<f64>,
    /// For each group: queries, quality, cost.
    pub group: Vec<(f64, f64, f64)>,
    /// For each side row: queries that count, sum of coefficients, and of their sizes.
    pub row: Vec<(f64, f64, f64)>,
    /// US dollars for each priced load; part of the cost.
    pub charge: Vec<f64>,
}

impl Measured {
    /// Nothing assigned yet.
    fn none(problem: &Problem<'_>) -> Self {
        let size = problem.input.resources * problem.models();
        Self {
            load: vec![0.0; size],
            group: vec![(0.0, 0.0, 0.0); problem.groups],
            row: vec![(0.0, 0.0, 0.0); problem.input.rows.len()],
            ..Self::default()
        }
    }

    /// All queries at their models; -1: not assigned.
    pub fn new(problem: &Problem<'_>, model: &[i32]) -> Self {
        let mut sums = Self::none(problem);
        for (i, &j) in model.iter().enumerate().filter(|(_, j)| **j >= 0) {
            sums.add(problem, i, j as usize);
        }
        sums.charge(problem);
        sums
    }

    /// Adds what the priced loads cost.
    fn charge(&mut self, problem: &Problem<'_>) {
        let m = problem.models();
        let load = |priced: &Priced<'_>| -> f64 {
            let loads = self.load[priced.resource * m..].iter().zip(priced.models);
            loads.filter(|(_, inside)| **inside).map(|(load, _)| load).sum()
        };
        self.charge = problem.input.priced.iter().map(|priced| priced.charge(load(priced))).collect();
        self.cost += self.charge.iter().sum::<f64>();
    }

    /// The served queries, of which those at `places` are at their model in `key` and the others were summed up when they
    /// were fixed there: every query is read once after its model is settled, and a million of them not once more.
    pub fn joined(prepared: &Prepared<'_>, fixed: &Sums, places: &[u32], key: &[u8]) -> Self {
        let problem = prepared.problem;
        let unmeasured = problem.groups > 0 && fixed.group.is_empty()
            || !problem.input.rows.is_empty()
            || !problem.input.priced.is_empty();
        if places.len() * 2 > prepared.len() || unmeasured {
            let mut sums = Self::none(problem);
            for (place, &j) in key.iter().enumerate() {
                sums.add(problem, prepared.query(place), j as usize);
            }
            sums.charge(problem);
            return sums;
        }
        let mut sums = Self {
            assigned: prepared.len() - places.len(),
            cost: fixed.cost,
            quality: fixed.quality,
            ..Self::none(problem)
        };
        sums.group.copy_from_slice(&fixed.group);
        let m = problem.models();
        // A capacity without a row cannot be reached.
        let terms = prepared.terms.iter().filter(|term| term.by == By::Model);
        for (term, load) in terms.zip(fixed.load.chunks_exact(m)) {
            let resource = if let Source::Load(resource) = term.source { resource } else { 0 };
            sums.load[resource * m..(resource + 1) * m].copy_from_slice(load);
        }
        for &place in places {
            sums.add(problem, prepared.query(place as usize), key[place as usize] as usize);
        }
        sums
    }

    fn add(&mut self, problem: &Problem<'_>, i: usize, j: usize) {
        let m = problem.models();
        let (cost, quality) = (problem.cost(i, j), problem.quality(i, j));
        self.assigned += 1;
        self.cost += cost;
        self.quality += quality;
        for r in 0..problem.input.resources {
            self.load[r * m + j] += problem.load(r, i, j);
        }
        if let Some(group) = problem.input.group {
            let of = &mut self.group[group[i] as usize];
            *of = (of.0 + 1.0, of.1 + quality, of.2 + cost);
        }
        for (at, of) in self.row.iter_mut().enumerate().filter(|(at, _)| problem.input.rows[*at].counts(i)) {
            let used = problem.side(at, i, j);
            *of = (of.0 + 1.0, of.1 + used, of.2 + used.abs());
        }
    }

    /// By how much a side row is overstepped; 0 within rounding.
    pub fn row_miss(&self, problem: &Problem<'_>, row: usize) -> f64 {
        let (members, sum, size) = self.row[row];
        let limit = problem.input.rows[row].total(members);
        let over = sum - limit;
        if members > 0.0 && over > REQUIREMENT * limit.abs().max(size) { over } else { 0.0 }
    }

    /// True when everything beside the requirement and the capacities holds: groups and side rows.
    pub fn others_hold(&self, problem: &Problem<'_>) -> bool {
        self.groups_hold(problem) && (0..self.row.len()).all(|row| self.row_miss(problem, row) == 0.0)
    }

    /// Mean quality over the assigned queries; NaN when none is.
    pub fn mean_quality(&self) -> f64 {
        self.quality / self.assigned as f64
    }

    /// True when every capacity holds, the models' own and those that they share.
    pub fn capacities_hold(&self, problem: &Problem<'_>) -> bool {
        let m = problem.models();
        let slack = if problem.input.load.is_some() { LOAD * self.assigned.max(1) as f64 } else { 0.0 };
        let fits = |(at, load): (usize, &f64)| {
            let capacity = problem.whole_capacity(at / m, at % m);
            *load <= capacity * (1.0 + slack)
        };
        let shared = |(at, pool): (usize, &Pooled<'_>)| {
            let loads = self.load[pool.resource * m..].iter().zip(pool.models);
            let load: f64 = loads.filter(|(_, inside)| **inside).map(|(load, _)| load).sum();
            load <= problem.whole_pool(at) * (1.0 + slack)
        };
        self.load.iter().enumerate().all(fits) && problem.input.pools.iter().enumerate().all(shared)
    }

    /// By how much the mean quality falls short of `floor`; 0 within rounding.
    pub fn quality_short(&self, floor: f64) -> f64 {
        let short = floor - self.mean_quality();
        if short > REQUIREMENT { short } else { 0.0 }
    }

    /// By how much the cost is over `budget`; 0 within rounding.
    pub fn over_budget(&self, budget: f64) -> f64 {
        let over = self.cost - budget;
        if over > REQUIREMENT * budget { over } else { 0.0 }
    }

    /// Shortfall of quality and excess of cost of a group.
    pub fn group_misses(&self, problem: &Problem<'_>, group: usize) -> (f64, f64) {
        let (size, quality, cost) = self.group[group];
        if size == 0.0 {
            return (0.0, 0.0);
        }
        let short = problem.group_floor(group).map_or(0.0, |floor| floor - quality / size);
        let over = problem.group_budget(group).map_or(0.0, |budget| cost - budget);
        let allowed = problem.group_budget(group).map_or(0.0, |budget| REQUIREMENT * budget);
        (if short > REQUIREMENT { short } else { 0.0 }, if over > allowed { over } else { 0.0 })
    }

    /// True when every group's own limits hold.
    fn groups_hold(&self, problem: &Problem<'_>) -> bool {
        (0..self.group.len()).all(|g| self.group_misses(problem, g) == (0.0, 0.0))
    }
}
