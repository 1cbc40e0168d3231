//! Random small problems, brute force, and a check that trusts nothing that the solver says.
#![allow(dead_code)]

pub mod mixed;

use eccos_core::{Criterion, Goal, Inputs, Matrix, Options, Problem, Solution, Status, solve};

/// A small generator (SplitMix64): the tests need repeatable numbers, nothing more.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }
}

/// An owned problem.
#[derive(Clone, Debug)]
pub struct Case {
    pub n: usize,
    pub m: usize,
    pub cost: Vec<f64>,
    pub quality: Vec<f64>,
    pub goal: Goal,
    pub resources: usize,
    pub load: Option<Vec<f64>>,
    pub capacity: Option<Vec<f64>>,
    pub allowed: Option<Vec<bool>>,
    pub floor: Option<Vec<f64>>,
    pub priority: Option<Vec<i64>>,
    pub group: Option<Vec<u32>>,
    pub group_floor: Option<Vec<f64>>,
    pub group_budget: Option<Vec<f64>>,
}

impl Case {
    pub fn plain(n: usize, m: usize, cost: Vec<f64>, quality: Vec<f64>, goal: Goal) -> Self {
        Self {
            n,
            m,
            cost,
            quality,
            goal,
            resources: 1,
            load: None,
            capacity: None,
            allowed: None,
            floor: None,
            priority: None,
            group: None,
            group_floor: None,
            group_budget: None,
        }
    }

    pub fn inputs(&self) -> Inputs<'_> {
        let (cost, quality) = (Matrix::F64(&self.cost), Matrix::F64(&self.quality));
        Inputs {
            resources: self.resources,
            load: self.load.as_deref().map(Matrix::F64),
            capacity: self.capacity.as_deref(),
            allowed: self.allowed.as_deref(),
            query_floor: self.floor.as_deref(),
            priority: self.priority.as_deref(),
            group: self.group.as_deref(),
            group_min_quality: self.group_floor.as_deref(),
            group_budget: self.group_budget.as_deref(),
            ..Inputs::new(self.n, self.m, cost, quality, self.goal)
        }
    }

    pub fn solve(&self, options: &Options<'_>) -> Solution {
        let problem = Problem::new(self.inputs()).expect("a well-formed case");
        solve(&problem, options).expect("well-formed options")
    }

    pub fn may(&self, i: usize, j: usize) -> bool {
        let at = i * self.m + j;
        self.allowed.as_ref().is_none_or(|a| a[at])
            && self.floor.as_ref().is_none_or(|f| f[i].is_nan() || self.quality[at] >= f[i])
    }

    pub fn load(&self, r: usize, i: usize, j: usize) -> f64 {
        self.load.as_ref().map_or(1.0, |w| w[(r * self.n + i) * self.m + j])
    }

    /// Sums of an assignment; `None` when a capacity or the mask is broken.
    pub fn sums(&self, model: &[i32]) -> Option<Sums> {
        let mut sums = Sums { cost: 0.0, quality: 0.0, served: 0, groups_hold: true };
        let mut load = vec![0.0; self.resources * self.m];
        let groups = self.group_floor.as_ref().or(self.group_budget.as_ref()).map_or(0, Vec::len);
        let mut of_group = vec![(0.0, 0.0, 0.0); groups];
        for (i, &j) in model.iter().enumerate().filter(|(_, j)| **j >= 0) {
            let j = j as usize;
            if !self.may(i, j) {
                return None;
            }
            let (c, a) = (self.cost[i * self.m + j], self.quality[i * self.m + j]);
            sums.cost += c;
            sums.quality += a;
            sums.served += 1;
            for r in 0..self.resources {
                load[r * self.m + j] += self.load(r, i, j);
            }
            if let Some(group) = &self.group {
                let g = &mut of_group[group[i] as usize];
                *g = (g.0 + 1.0, g.1 + a, g.2 + c);
            }
        }
        let capacity = |at: usize| self.capacity.as_ref().map_or(f64::INFINITY, |c| c[at]);
        if load.iter().enumerate().any(|(at, l)| *l > capacity(at) * (1.0 + 1e-12)) {
            return None;
        }
        for (g, (size, quality, cost)) in of_group.into_iter().enumerate() {
            let floor = self.group_floor.as_ref().map_or(f64::NAN, |f| f[g]);
            let budget = self.group_budget.as_ref().map_or(f64::NAN, |b| b[g]);
            let misses = size > 0.0 && (floor - quality / size > 1e-9 || cost - budget > 1e-9 * budget);
            sums.groups_hold &= !misses;
        }
        Some(sums)
    }

    pub fn meets(&self, sums: &Sums) -> bool {
        sums.groups_hold
            && match self.goal {
                Goal::Quality { min } => min - sums.quality / sums.served as f64 <= 1e-9,
                Goal::Budget { max } => sums.cost - max <= 1e-9 * max,
                Goal::Price { .. } => true,
            }
    }

    pub fn value(criterion: Criterion, sums: &Sums) -> f64 {
        match criterion {
            Criterion::Cost => sums.cost,
            Criterion::Quality => sums.quality / sums.served as f64,
            Criterion::Value(value) => sums.cost - value * sums.quality,
        }
    }

    pub fn criterion(&self) -> Criterion {
        match self.goal {
            Goal::Quality { .. } => Criterion::Cost,
            Goal::Budget { .. } => Criterion::Quality,
            Goal::Price { value } => Criterion::Value(value),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Sums {
    pub cost: f64,
    pub quality: f64,
    pub served: usize,
    pub groups_hold: bool,
}

/// What brute force knows of a case in which every query is served.
#[derive(Debug, Default)]
pub struct Brute {
    /// Some assignment keeps the capacities.
    pub fits: bool,
    /// The best value of the stated goal, when it can be met.
    pub best: Option<f64>,
    /// Highest mean quality and least cost within the capacities.
    pub most_quality: f64,
    pub least_cost: f64,
}

pub fn brute(case: &Case) -> Brute {
    let mut out = Brute { most_quality: f64::NEG_INFINITY, least_cost: f64::INFINITY, ..Brute::default() };
    let mut model = vec![0i32; case.n];
    let criterion = case.criterion();
    loop {
        if let Some(sums) = case.sums(&model) {
            out.fits = true;
            out.most_quality = out.most_quality.max(sums.quality / case.n as f64);
            out.least_cost = out.least_cost.min(sums.cost);
            if case.meets(&sums) {
                let value = Case::value(criterion, &sums);
                let better =
                    out.best.is_none_or(|b| if criterion == Criterion::Quality { value > b } else { value < b });
                if better {
                    out.best = Some(value);
                }
            }
        }
        let Some(at) = model.iter().position(|&j| (j as usize) + 1 < case.m) else {
            return out;
        };
        model[..at].fill(0);
        model[at] += 1;
    }
}

/// Checks everything a solution claims about itself against the data.
pub fn check(case: &Case, solution: &Solution) {
    let sums =
        case.sums(&solution.model).unwrap_or_else(|| panic!("capacities or mask broken: {case:?} {solution:?}"));
    if sums.served == 0 {
        return;
    }
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (a.abs().max(b.abs())) || a == b;
    assert!(close(sums.cost, solution.cost), "cost {} {}", sums.cost, solution.cost);
    assert!(close(sums.quality / sums.served as f64, solution.quality), "quality");
    assert!(close(Case::value(solution.criterion, &sums), solution.objective), "objective");
    match solution.status {
        Status::Optimal | Status::Feasible => {
            assert!(case.meets(&sums), "claims feasible: {case:?} {solution:?}");
            assert_eq!(sums.served, case.n);
            assert_eq!(solution.violation, 0.0);
        }
        Status::Overloaded => assert!(sums.served < case.n),
        Status::Undecided => assert!(sums.served < case.n || !case.meets(&sums), "{case:?} {solution:?}"),
        Status::QualityUnreachable | Status::BudgetUnreachable | Status::RowUnreachable => {
            assert!(!case.meets(&sums), "{case:?} {solution:?}");
        }
    }
    if solution.status != Status::Overloaded {
        let parts = match solution.criterion {
            Criterion::Value(value) => sums.cost + value * sums.quality,
            _ => solution.objective,
        };
        let slack = 1e-9 * solution.bound.abs().max(solution.objective.abs()) + 1e-13 * parts;
        match solution.criterion {
            Criterion::Quality => assert!(solution.objective <= solution.bound + slack, "bound {solution:?}"),
            _ => assert!(solution.objective >= solution.bound - slack, "bound {solution:?}"),
        }
    }
}

/// A middling problem that looks like a pool: dearer models are better, queries differ in difficulty.
pub fn pool_like(rng: &mut Rng, n: usize, m: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut cost, mut quality) = (vec![], vec![]);
    for _ in 0..n {
        let (difficulty, length) = (3.0 * rng.unit() - 1.5, 0.2 + rng.unit() * rng.unit() * 4.0);
        for j in 0..m {
            let skill = j as f64 / m as f64 * 2.0 - 0.5;
            cost.push(1e-4 * length * (0.5 + rng.unit()) * (3.0 * j as f64 / m as f64).exp());
            quality.push(1.0 / (1.0 + (1.2 * (difficulty - skill) + rng.unit() - 0.5).exp()));
        }
    }
    (cost, quality)
}
