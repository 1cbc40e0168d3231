//! What an assignment costs and uses, in double precision on the data as given.

use crate::problem::{Matrix, Problem};

/// Allowed rounding of the requirement, relative; of loads, relative to the capacity (the rounding of a sum).
pub(crate) const REQUIREMENT: f64 = 1e-9;
const LOAD: f64 = 1e-12;

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
}

impl Measured {
    pub fn new(problem: &Problem<'_>, model: &[i32]) -> Self {
        let (m, resources) = (problem.models(), problem.input.resources);
        let mut sums =
            Self { load: vec![0.0; resources * m], group: vec![(0.0, 0.0, 0.0); problem.groups], ..Self::default() };
        match (problem.input.cost, problem.input.quality) {
            (Matrix::F32(cost), Matrix::F32(quality)) => sums.add(problem, model, cost, quality),
            (Matrix::F32(cost), Matrix::F64(quality)) => sums.add(problem, model, cost, quality),
            (Matrix::F64(cost), Matrix::F32(quality)) => sums.add(problem, model, cost, quality),
            (Matrix::F64(cost), Matrix::F64(quality)) => sums.add(problem, model, cost, quality),
        }
        sums
    }

    fn add<C: Copy + Into<f64>, Q: Copy + Into<f64>>(
        &mut self,
        problem: &Problem<'_>,
        model: &[i32],
        cost: &[C],
        quality: &[Q],
    ) {
        let (m, resources) = (problem.models(), problem.input.resources);
        let (costs, qualities) = (cost.chunks_exact(m), quality.chunks_exact(m));
        for (i, ((&j, costs), qualities)) in model.iter().zip(costs).zip(qualities).enumerate() {
            if j < 0 {
                continue;
            }
            let j = j as usize;
            let (cost, quality) = (costs[j].into(), qualities[j].into());
            self.assigned += 1;
            self.cost += cost;
            self.quality += quality;
            for r in 0..resources {
                self.load[r * m + j] += problem.load(r, i, j);
            }
            if let Some(group) = problem.input.group {
                let of = &mut self.group[group[i] as usize];
                *of = (of.0 + 1.0, of.1 + quality, of.2 + cost);
            }
        }
    }

    /// Mean quality over the assigned queries; NaN when none is.
    pub fn mean_quality(&self) -> f64 {
        self.quality / self.assigned as f64
    }

    /// True when every capacity holds.
    pub fn capacities_hold(&self, problem: &Problem<'_>) -> bool {
        let m = problem.models();
        let fits = |(at, load): (usize, &f64)| {
            let capacity = problem.whole_capacity(at / m, at % m);
            *load <= capacity * (1.0 + LOAD)
        };
        self.load.iter().enumerate().all(fits)
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
    pub fn groups_hold(&self, problem: &Problem<'_>) -> bool {
        (0..self.group.len()).all(|g| self.group_misses(problem, g) == (0.0, 0.0))
    }
}
