//! Every small problem that the generator makes, against all assignments there are.

mod common;

use common::{Case, Rng, brute, check};
use eccos_core::{Criterion, Goal, Options, Status};

/// Small problems of every family: grids of values, ties, masks, floors, several resources, groups.
fn random_case(rng: &mut Rng) -> Case {
    let m = 1 + rng.below(4);
    let n = 1 + rng.below(if m < 3 { 7 } else { 5 });
    let grid = [1.0, 4.0, 16.0, 1e6][rng.below(4)];
    let scale = [1.0, 1e-12, 1e12, 1e-4][rng.below(4)];
    let on_grid = |rng: &mut Rng| (rng.unit() * grid).round() / grid;
    let cost: Vec<f64> = (0..n * m).map(|_| on_grid(rng) * scale).collect();
    let quality: Vec<f64> = (0..n * m).map(|_| on_grid(rng)).collect();
    let goal = match rng.below(3) {
        0 => Goal::Quality { min: if rng.chance(0.5) { on_grid(rng) } else { rng.unit() } },
        1 => Goal::Budget { max: (on_grid(rng) * n as f64) * scale },
        _ => Goal::Price { value: on_grid(rng) * scale },
    };
    let mut case = Case::plain(n, m, cost, quality, goal);
    if rng.chance(0.4) {
        case.resources = 1 + rng.below(2);
        let resources = case.resources;
        case.load = Some((0..resources * n * m).map(|_| rng.below(5) as f64).collect());
    }
    if rng.chance(0.8) {
        let unit = if case.load.is_some() { 2.0 } else { 1.0 };
        let size = case.resources * m;
        let most = (2.5 * unit * n as f64 / m as f64).ceil() as usize + 1;
        let draw = |rng: &mut Rng| {
            if rng.chance(0.1) { f64::INFINITY } else { rng.below(most + 1) as f64 }
        };
        case.capacity = Some((0..size).map(|_| draw(rng)).collect());
    }
    if rng.chance(0.3) {
        let mut allowed: Vec<bool> = (0..n * m).map(|_| rng.chance(0.6)).collect();
        for i in 0..n {
            allowed[i * m + rng.below(m)] = true;
        }
        case.allowed = Some(allowed);
    }
    if rng.chance(0.2) {
        let g = 1 + rng.below(2);
        case.group = Some((0..n).map(|_| rng.below(g) as u32).collect());
        let limit = |rng: &mut Rng, x: f64| if rng.chance(0.5) { x } else { f64::NAN };
        case.group_floor = Some(
            (0..g)
                .map(|_| {
                    let x = rng.unit();
                    limit(rng, x)
                })
                .collect(),
        );
        case.group_budget = Some(
            (0..g)
                .map(|_| {
                    let x = rng.unit() * n as f64 * scale;
                    limit(rng, x)
                })
                .collect(),
        );
    }
    case
}

/// Solves and compares with brute force; returns a short name of what happened.
fn compare(case: &Case, exact: bool) -> &'static str {
    let options = Options { tolerance: if exact { 0.0 } else { 1e-4 }, ..Options::default() };
    let solution = case.solve(&options);
    check(case, &solution);
    let truth = brute(case);
    let magnitude = case.cost.iter().fold(0.0, |a: f64, b| a.max(*b));
    let size = |x: f64| 1e-7 * x.abs() + 1e-9 * magnitude + 1e-300;
    if !truth.fits {
        // With loads it is bin packing: the default may end without a proof, and then it claims none.
        if solution.status == Status::Undecided && case.load.is_some() && !exact {
            return "undecided";
        }
        assert_eq!(solution.status, Status::Overloaded, "{case:?} {solution:?}");
        return "overloaded";
    }
    if let (Some(best), false) = (truth.best, solution.status == Status::Overloaded) {
        let bound_holds = if case.criterion() == Criterion::Quality {
            solution.criterion != Criterion::Quality || solution.bound >= best - size(best)
        } else {
            solution.criterion != case.criterion() || solution.bound <= best + size(best)
        };
        assert!(bound_holds, "bound {} best {best} {case:?} {solution:?}", solution.bound);
    }
    match (truth.best, solution.status) {
        (Some(best), Status::Optimal | Status::Feasible) => {
            if exact {
                assert!((solution.objective - best).abs() <= size(best), "{best} {case:?} {solution:?}");
                assert_eq!(solution.status, Status::Optimal, "{best} {case:?} {solution:?}");
            }
            "met"
        }
        (Some(_), _) => "missed",
        (None, Status::QualityUnreachable | Status::BudgetUnreachable) => {
            let grouped = case.group.is_some();
            match (solution.criterion, grouped) {
                (Criterion::Quality, false) => {
                    assert!((solution.quality - truth.most_quality).abs() < 1e-9 || case.load.is_some());
                }
                (Criterion::Cost, false) => {
                    assert!(solution.cost <= truth.least_cost + size(truth.least_cost) || case.load.is_some());
                }
                _ => {}
            }
            "unreachable"
        }
        (None, Status::Overloaded) => "packed",
        (None, Status::Undecided) if case.load.is_some() && !exact => "undecided",
        (None, status) => panic!("{status:?} although nothing is feasible: {case:?} {solution:?}"),
    }
}

#[test]
fn agrees_with_brute_force() {
    let mut counts = std::collections::BTreeMap::new();
    let rounds = if cfg!(debug_assertions) { 4_000 } else { 40_000 };
    for seed in 0..rounds {
        let mut rng = Rng(seed);
        let case = random_case(&mut rng);
        let exact = rng.chance(0.5);
        *counts.entry((compare(&case, exact), case.load.is_some(), exact)).or_insert(0usize) += 1;
    }
    // A feasible problem with one request a query must never be missed.
    assert_eq!(counts.get(&("missed", false, true)), None, "{counts:?}");
    assert_eq!(counts.get(&("packed", false, true)), None, "{counts:?}");
    println!("{counts:?}");
}
