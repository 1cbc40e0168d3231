//! Limits as data: what a row of the program limits, and limits over several models at once.

use super::{Matrix, Problem};

/// What a row limits: a place in the arguments of the caller, and in the multipliers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// The requirement: mean quality, or the budget.
    Requirement,
    /// One model's capacity: its place in `capacity`, resource by resource.
    Capacity(usize),
    /// A pooled capacity.
    Pool(usize),
    /// A group's least mean quality.
    GroupQuality(usize),
    /// A group's budget.
    GroupBudget(usize),
    /// A side row.
    Row(usize),
    /// A priced load.
    Priced(usize),
}

/// A price on what the loads of some models are above a level, or below it: overage, and a commitment.
#[derive(Clone, Copy, Debug)]
pub struct Priced<'a> {
    /// (M,) the models whose loads count.
    pub models: &'a [bool],
    /// The resource whose load it prices.
    pub resource: usize,
    /// True: what is missing of the level costs; false: what is above it.
    pub below: bool,
    /// The level, finite and >= 0.
    pub level: f64,
    /// US dollars for each unit, finite and >= 0.
    pub price: f64,
}

impl Priced<'_> {
    /// The sign of a load in `sum <= limit`.
    pub(crate) fn sign(&self) -> f64 {
        if self.below { -1.0 } else { 1.0 }
    }

    /// The right-hand side of `sum <= limit` up to which nothing is paid.
    pub(crate) fn limit(&self) -> f64 {
        self.sign() * self.level
    }

    /// What a load of these models costs.
    pub(crate) fn charge(&self, load: f64) -> f64 {
        self.price * (self.sign() * (load - self.level)).max(0.0)
    }
}

/// A limit on the loads of several models together.
#[derive(Clone, Copy, Debug)]
pub struct Pooled<'a> {
    /// (M,) the models that share it.
    pub models: &'a [bool],
    /// The resource whose load it limits.
    pub resource: usize,
    /// >= 0, infinity for none.
    pub capacity: f64,
}

/// A limit on a sum of the caller's own figures, over all queries or some.
#[derive(Clone, Copy, Debug)]
pub struct SideRow<'a> {
    /// (N, M) the figure of every pair, finite, of either sign.
    pub values: Matrix<'a>,
    /// (N,) the queries that count; `None`: all.
    pub members: Option<&'a [bool]>,
    /// True: at least the limit; false: at most.
    pub at_least: bool,
    /// True: the mean over those served; false: the sum.
    pub mean: bool,
    /// The limit, finite.
    pub limit: f64,
}

impl SideRow<'_> {
    /// True when a query counts.
    pub(crate) fn counts(&self, query: usize) -> bool {
        self.members.is_none_or(|members| members[query])
    }

    /// The coefficient of a pair in `sum <= limit`, given its place in `values`.
    pub(crate) fn coefficient(&self, query: usize, at: usize) -> f64 {
        if self.counts(query) { self.sign() * self.values.at(at) } else { 0.0 }
    }

    /// The right-hand side of `sum <= limit` with so many queries that count.
    pub(crate) fn total(&self, members: f64) -> f64 {
        self.sign() * self.limit * if self.mean { members } else { 1.0 }
    }

    /// What a sum of coefficients is in the caller's terms.
    pub(crate) fn stated(&self, sum: f64, members: f64) -> f64 {
        self.sign() * sum / if self.mean { members } else { 1.0 }
    }

    /// The sign of a figure in `sum <= limit`.
    pub(crate) fn sign(&self) -> f64 {
        if self.at_least { -1.0 } else { 1.0 }
    }
}

impl Problem<'_> {
    /// The coefficient of an allowed pair in a side row.
    pub(crate) fn side(&self, row: usize, query: usize, model: usize) -> f64 {
        self.input.rows[row].coefficient(query, self.at(query, model))
    }

    /// The coefficient of an allowed pair in the row of a priced load.
    pub(crate) fn priced(&self, at: usize, query: usize, model: usize) -> f64 {
        let priced = &self.input.priced[at];
        if priced.models[model] { priced.sign() * self.load(priced.resource, query, model) } else { 0.0 }
    }

    /// True when something limits the loads.
    pub(crate) fn has_capacities(&self) -> bool {
        self.input.capacity.is_some() || !self.input.pools.is_empty()
    }

    /// A pool's capacity as far as it can be used: whole requests when every query is one.
    pub(crate) fn whole_pool(&self, pool: usize) -> f64 {
        let capacity = self.input.pools[pool].capacity + 0.0;
        if self.input.load.is_none() { capacity.floor() } else { capacity }
    }

    /// The pools that a model's load of a resource counts for.
    pub(crate) fn pools_of(&self, resource: usize, model: usize) -> impl Iterator<Item = usize> {
        let pools = self.input.pools.iter().enumerate();
        pools.filter(move |(_, pool)| pool.resource == resource && pool.models[model]).map(|(at, _)| at)
    }

    /// True when any two limits of a resource are disjoint or one holds the other: then requests split nowhere but for
    /// the requirement.
    pub(crate) fn pools_are_nested(&self) -> bool {
        let pools = self.input.pools;
        pools.iter().enumerate().all(|(at, a)| {
            pools[at + 1..].iter().all(|b| {
                let both = || a.models.iter().zip(b.models);
                a.resource != b.resource
                    || !both().any(|(&a, &b)| a && b)
                    || both().all(|(&a, &b)| a || !b)
                    || both().all(|(&a, &b)| b || !a)
            })
        })
    }
}

/// What is left of the capacities while queries are placed one after the other.
pub(crate) struct Room<'a> {
    problem: &'a Problem<'a>,
    /// (R, M)
    models: Vec<f64>,
    pools: Vec<f64>,
}

impl<'a> Room<'a> {
    pub fn new(problem: &'a Problem<'a>) -> Self {
        let m = problem.models();
        let models = (0..problem.input.resources * m).map(|at| problem.whole_capacity(at / m, at % m)).collect();
        let pools = (0..problem.input.pools.len()).map(|pool| problem.whole_pool(pool)).collect();
        Self { problem, models, pools }
    }

    /// Takes the loads (R, M) of all models whose capacities and pools have room for all of them; true for the other models.
    pub fn take_all(&mut self, load: &[f64]) -> Vec<bool> {
        let problem = self.problem;
        let m = problem.models();
        let mut crowded: Vec<bool> =
            (0..m).map(|j| (j..load.len()).step_by(m).any(|at| load[at] > self.models[at])).collect();
        for (pool, room) in problem.input.pools.iter().zip(&self.pools) {
            let inside = || (0..m).filter(|&j| pool.models[j]);
            if inside().map(|j| load[pool.resource * m + j]).sum::<f64>() > *room {
                inside().for_each(|j| crowded[j] = true);
            }
        }
        for (at, load) in load.iter().enumerate().filter(|(at, _)| !crowded[at % m]) {
            self.models[at] -= load;
            for pool in problem.pools_of(at / m, at % m) {
                self.pools[pool] -= load;
            }
        }
        crowded
    }

    /// The largest share that a query would take of what is left of a limit; above 1 it does not fit.
    pub fn share(&self, query: usize, model: usize) -> f64 {
        let problem = self.problem;
        let mut most: f64 = 0.0;
        for r in 0..problem.input.resources {
            let load = problem.load(r, query, model);
            if load > 0.0 {
                let own = self.models[r * problem.models() + model];
                let least = problem.pools_of(r, model).map(|pool| self.pools[pool]).fold(own, f64::min);
                most = most.max(load / least.max(0.0));
            }
        }
        most
    }

    pub fn fits(&self, query: usize, model: usize) -> bool {
        let problem = self.problem;
        (0..problem.input.resources).all(|r| {
            let load = problem.load(r, query, model);
            load <= self.models[r * problem.models() + model]
                && problem.pools_of(r, model).all(|pool| load <= self.pools[pool])
        })
    }

    pub fn take(&mut self, query: usize, model: usize) {
        let problem = self.problem;
        for r in 0..problem.input.resources {
            let load = problem.load(r, query, model);
            self.models[r * problem.models() + model] -= load;
            for pool in problem.pools_of(r, model) {
                self.pools[pool] -= load;
            }
        }
    }
}
