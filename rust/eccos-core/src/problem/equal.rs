//! Equal columns: endpoints of one model, which cost, answer and weigh the same for every query.
//!
//! At equal prices every query of the model is tied between its endpoints, so that no pass over the queries could fix any
//! of them. Such columns are therefore one model while the prices are sought, with the sum of their capacities, and its
//! queries are dealt out afterwards ([`crate::answer`]).

use super::{Inputs, Pooled, Problem, with_types};
use crate::duals::Duals;

/// Queries whose pairs are compared before any column is read to its end.
const SAMPLE: usize = 16;
/// Loads of their own have to be fitted into each endpoint again: that works where they are many.
const MANY: usize = 4096;

/// Models that stand for several equal ones, and what those share.
#[derive(Debug)]
pub(crate) struct Equal {
    /// The first column of each kind, ascending: the models of the merged problem.
    columns: Vec<u16>,
    /// All columns of each kind, ascending.
    pub members: Vec<Vec<u16>>,
    /// (R, kinds)
    capacity: Option<Vec<f64>>,
    /// The kinds in each pool.
    pools: Vec<Vec<bool>>,
}

impl Equal {
    /// The kinds of columns of a problem; `None` when no two are equal, which a few queries show.
    pub fn find(problem: &Problem<'_>) -> Option<Self> {
        if problem.models() < 2
            || !problem.input.priced.is_empty()
            || problem.input.load.is_some() && problem.queries() < MANY
        {
            return None;
        }
        let kind = kinds(problem)?;
        let columns: Vec<u16> = (0..kind.len() as u16).filter(|&j| kind[usize::from(j)] == j).collect();
        let of = |first: &u16| (0..kind.len() as u16).filter(|&j| kind[usize::from(j)] == *first).collect();
        let members: Vec<Vec<u16>> = columns.iter().map(of).collect();
        let capacity = problem.input.capacity.map(|_| {
            let resources = 0..problem.input.resources;
            let sum = |r: usize, members: &Vec<u16>| -> f64 {
                members.iter().map(|&j| problem.whole_capacity(r, usize::from(j))).sum()
            };
            resources.flat_map(|r| members.iter().map(move |members| sum(r, members))).collect()
        });
        let inside = |pool: &Pooled<'_>| columns.iter().map(|&j| pool.models[usize::from(j)]).collect();
        let pools = problem.input.pools.iter().map(inside).collect();
        Some(Self { columns, members, capacity, pools })
    }

    /// The pools over kinds.
    pub fn pools<'b>(&'b self, problem: &'b Problem<'_>) -> Vec<Pooled<'b>> {
        let pools = problem.input.pools.iter().zip(&self.pools);
        pools.map(|(pool, models)| Pooled { models, resource: pool.resource, capacity: pool.capacity }).collect()
    }

    /// The problem over kinds: the same arrays, of which only the first column of each kind is read.
    pub fn problem<'b>(&'b self, problem: &'b Problem<'_>, pools: &'b [Pooled<'b>]) -> Problem<'b> {
        Problem {
            input: Inputs { capacity: self.capacity.as_deref(), pools, ..problem.input },
            usable: problem.usable.as_deref().map(std::borrow::Cow::Borrowed),
            routable: problem.routable.clone(),
            groups: problem.groups,
            columns: Some(&self.columns),
        }
    }

    /// Multipliers over kinds from those of all models: a kind costs what its cheapest member costs.
    pub fn merged(&self, problem: &Problem<'_>, duals: &Duals) -> Option<Duals> {
        let m = problem.models();
        let least = |r: usize, members: &Vec<u16>| {
            members.iter().map(|&j| duals.capacity[r * m + usize::from(j)]).fold(f64::INFINITY, f64::min)
        };
        let least = &least;
        let resources = 0..problem.input.resources;
        duals.fits(problem).then(|| Duals {
            capacity: resources.flat_map(|r| self.members.iter().map(move |members| least(r, members))).collect(),
            ..duals.clone()
        })
    }

    /// Multipliers of all models from those of the kinds, which prove the same bound.
    pub fn spread(&self, problem: &Problem<'_>, duals: &Duals) -> Duals {
        let (m, kinds) = (problem.models(), self.columns.len());
        let mut capacity = vec![0.0; problem.input.resources * m];
        for (at, &price) in duals.capacity.iter().enumerate() {
            for &j in &self.members[at % kinds] {
                capacity[at / kinds * m + usize::from(j)] = price;
            }
        }
        Duals { capacity, ..duals.clone() }
    }
}

/// For every column the first that equals it; `None` when there are no two.
fn kinds(problem: &Problem<'_>) -> Option<Vec<u16>> {
    let (n, m) = (problem.queries(), problem.models());
    let mut mark: Vec<u64> = (0..m).map(|j| in_pools(problem, j)).collect();
    let count = n.min(SAMPLE);
    for t in 0..count {
        for (j, mark) in mark.iter_mut().enumerate() {
            *mark = mixed(problem, t * n / count, j, *mark);
        }
        if t == 0 || t == count - 1 {
            let mut sorted = mark.clone();
            sorted.sort_unstable();
            if sorted.windows(2).all(|pair| pair[0] != pair[1]) {
                return None;
            }
        }
    }
    let mut kind: Vec<u16> = (0..m as u16).collect();
    for j in 1..m {
        // Against the first of each kind alone: a column that only looks like it stays for itself.
        let alike = |&k: &usize| kind[k] == k as u16 && mark[k] == mark[j] && are_equal(problem, k, j);
        if let Some(k) = (0..j).find(alike) {
            kind[j] = k as u16;
        }
    }
    kind.iter().enumerate().any(|(j, &k)| usize::from(k) != j).then_some(kind)
}

/// A number for the pools that a model is in.
fn in_pools(problem: &Problem<'_>, model: usize) -> u64 {
    problem.input.pools.iter().fold(1, |mark, pool| mix(mark, u64::from(pool.models[model])))
}

fn mix(mark: u64, x: u64) -> u64 {
    let mark = (mark ^ x).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mark ^ mark >> 29
}

/// Everything that a limit sees of a pair, mixed into a number.
fn mixed(problem: &Problem<'_>, query: usize, model: usize, mark: u64) -> u64 {
    if !problem.may(query, model) {
        return mix(mark, 1);
    }
    let mut mark = mix(mark, problem.cost(query, model).to_bits());
    mark = mix(mark, problem.quality(query, model).to_bits());
    if problem.input.load.is_some() {
        for r in 0..problem.input.resources {
            mark = mix(mark, problem.load(r, query, model).to_bits());
        }
    }
    (0..problem.input.rows.len()).fold(mark, |mark, row| mix(mark, problem.side(row, query, model).to_bits()))
}

/// True when two columns are equal in everything that a limit sees, for every query.
fn are_equal(problem: &Problem<'_>, a: usize, b: usize) -> bool {
    // Every field by name, so that a new one has to be thought of here and in `mixed`.
    let Inputs {
        queries,
        models,
        cost,
        quality,
        resources,
        load,
        pools,
        rows,
        priced: _,
        goal: _,
        capacity: _,
        allowed: _,
        query_floor: _,
        priority: _,
        group: _,
        group_min_quality: _,
        group_budget: _,
        unroutable: _,
    } = problem.input;
    if pools.iter().any(|pool| pool.models[a] != pool.models[b]) {
        return false;
    }
    if problem.usable.is_none() && load.is_none() && rows.is_empty() {
        return with_types!(cost, quality, |cost, quality| {
            let mut queries = cost.chunks_exact(models).zip(quality.chunks_exact(models));
            queries.all(|(cost, quality)| cost[a] == cost[b] && quality[a] == quality[b])
        });
    }
    let alike = |i: usize| {
        problem.cost(i, a) == problem.cost(i, b)
            && problem.quality(i, a) == problem.quality(i, b)
            && (load.is_none() || (0..resources).all(|r| problem.load(r, i, a) == problem.load(r, i, b)))
            && (0..rows.len()).all(|row| problem.side(row, i, a) == problem.side(row, i, b))
    };
    // What a query may not take may hold anything.
    (0..queries).all(|i| problem.may(i, a) == problem.may(i, b) && (!problem.may(i, a) || alike(i)))
}
