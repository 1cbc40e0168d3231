//! Capacities that several models share, against all assignments there are.

mod common;

use common::{Case, Rng};
use eccos_core::{Criterion, Goal, Options, Pooled, Problem, Solution, Status, solve};

/// A small problem and its pools: mask, resource, capacity.
type Drawn = (Case, Vec<(Vec<bool>, usize, f64)>);

fn draw(rng: &mut Rng) -> Drawn {
    let (n, m) = (1 + rng.below(5), 1 + rng.below(4));
    let cost = (0..n * m).map(|_| rng.below(6) as f64).collect();
    let quality = (0..n * m).map(|_| rng.below(9) as f64 / 8.0).collect();
    let goal = match rng.below(3) {
        0 => Goal::Quality { min: rng.unit() },
        1 => Goal::Budget { max: rng.below(5 * n) as f64 },
        _ => Goal::Price { value: rng.unit() * 9.0 },
    };
    let mut case = Case::plain(n, m, cost, quality, goal);
    if rng.chance(0.4) {
        case.resources = 1 + rng.below(2);
        case.load = Some((0..case.resources * n * m).map(|_| rng.below(5) as f64).collect());
    }
    if rng.chance(0.5) {
        case.capacity = Some((0..case.resources * m).map(|_| rng.below(2 * n + 1) as f64).collect());
    }
    if rng.chance(0.3) {
        let mut allowed: Vec<bool> = (0..n * m).map(|_| rng.chance(0.6)).collect();
        (0..n).for_each(|i| allowed[i * m + rng.below(m)] = true);
        case.allowed = Some(allowed);
    }
    let pools = (0..=rng.below(3)).map(|_| {
        let mut models: Vec<bool> = (0..m).map(|_| rng.chance(0.6)).collect();
        models[rng.below(m)] = true;
        let most = if case.load.is_some() { 3 * n } else { n };
        let capacity = if rng.chance(0.1) { f64::INFINITY } else { rng.below(most + 2) as f64 * 0.75 };
        (models, rng.below(case.resources), capacity)
    });
    let pools = pools.collect();
    (case, pools)
}

fn answer((case, pools): &Drawn, options: &Options<'_>) -> Solution {
    let pools: Vec<Pooled<'_>> = pools
        .iter()
        .map(|(models, resource, capacity)| Pooled { models, resource: *resource, capacity: *capacity })
        .collect();
    let inputs = eccos_core::Inputs { pools: &pools, ..case.inputs() };
    solve(&Problem::new(inputs).expect("a well-formed case"), options).expect("well-formed options")
}

fn pools_hold((case, pools): &Drawn, model: &[i32]) -> bool {
    pools.iter().all(|(models, resource, capacity)| {
        let served = model.iter().enumerate().filter(|(_, j)| **j >= 0 && models[**j as usize]);
        served.map(|(i, &j)| case.load(*resource, i, j as usize)).sum::<f64>() <= *capacity
    })
}

/// Whether everyone can be served, and the best value of the stated goal.
fn brute(drawn: &Drawn) -> (bool, Option<f64>) {
    let case = &drawn.0;
    let (mut fits, mut best) = (false, None);
    let mut model = vec![0; case.n];
    loop {
        if let Some(sums) = case.sums(&model).filter(|_| pools_hold(drawn, &model)) {
            fits = true;
            let value = Case::value(case.criterion(), &sums);
            let better = |b: f64| if case.criterion() == Criterion::Quality { value > b } else { value < b };
            if case.meets(&sums) && best.is_none_or(better) {
                best = Some(value);
            }
        }
        let Some(at) = model.iter().position(|&j| (j as usize) + 1 < case.m) else { return (fits, best) };
        model[..at].fill(0);
        model[at] += 1;
    }
}

#[test]
fn agrees_with_brute_force() {
    let mut counts = std::collections::BTreeMap::new();
    let rounds = if cfg!(debug_assertions) { 1_000 } else { 40_000 };
    for seed in 0..rounds {
        let drawn = draw(&mut Rng(seed));
        let exact = Options { tolerance: 0.0, ..Options::default() };
        for (options, exact) in [(exact, true), (Options::default(), false)] {
            let found = answer(&drawn, &options);
            assert!(drawn.0.sums(&found.model).is_some() && pools_hold(&drawn, &found.model), "{seed} {found:?}");
            let (fits, best) = brute(&drawn);
            let met = matches!(found.status, Status::Optimal | Status::Feasible);
            *counts.entry((met, fits, best.is_some(), exact)).or_insert(0) += 1;
            assert_eq!(met, best.is_some(), "{seed} {drawn:?} {found:?}");
            assert!(fits || matches!(found.status, Status::Overloaded | Status::Undecided), "{seed} {found:?}");
            assert!(!fits || found.status != Status::Overloaded, "{seed} {drawn:?} {found:?}");
            let Some(best) = best else { continue };
            let room = 1e-9 * (1.0 + best.abs());
            let worse =
                if found.criterion == Criterion::Quality { best - found.objective } else { found.objective - best };
            let short = if found.criterion == Criterion::Quality { best - found.bound } else { found.bound - best };
            assert!(worse >= -room && short <= room, "{seed} best {best} {drawn:?} {found:?}");
            assert!(!exact || worse <= room, "{seed} best {best} {drawn:?} {found:?}");
        }
    }
    assert!(counts.len() >= 6, "{counts:?}");
}

#[test]
fn the_growth_it_names_serves_everything() {
    let mut tried = 0;
    for seed in 0..1500 {
        let mut drawn = draw(&mut Rng(seed));
        drawn.0.goal = Goal::Price { value: 1.0 };
        let found = answer(&drawn, &Options::default());
        let Some(why) = found.explanation.filter(|_| found.status == Status::Overloaded) else { continue };
        if let Some(capacity) = &mut drawn.0.capacity {
            for (resource, model, more) in why.repair.capacity {
                capacity[resource * drawn.0.m + model] += more;
            }
        }
        for (pool, more) in why.repair.pool {
            drawn.1[pool].2 += more;
        }
        let again = answer(&drawn, &Options::default());
        assert_ne!(again.status, Status::Overloaded, "{seed} {drawn:?}");
        tried += 1;
    }
    assert!(tried > 150, "{tried}");
}
