//! Transforms with a known effect, on families that are hard for such methods.

mod common;

use common::{Case, Rng, check, pool_like};
use eccos_core::{Criterion, Goal, Options, Solution, Status};
use proptest::prelude::*;

/// One problem of a family.
fn family(kind: usize, seed: u64) -> Case {
    let mut rng = Rng(seed);
    let (n, m) = (1 + rng.below(80), 1 + rng.below(9));
    let (mut cost, mut quality) = pool_like(&mut rng, n, m);
    match kind {
        0 => {}
        1 => quality.iter_mut().for_each(|a| *a = (*a * 16.0).round() / 16.0),
        2 => (0..n * m).for_each(|at| cost[at] = cost[at / m * m]),
        3 => cost.iter_mut().for_each(|c| *c = 0.0),
        4 => (0..n * m).filter(|at| at % m > 0 && at % m % 2 == 1).for_each(|at| {
            cost[at] = cost[at - 1];
            quality[at] = quality[at - 1];
        }),
        5 => (m..n * m).for_each(|at| {
            cost[at] = cost[at % (m * n.div_ceil(4))];
            quality[at] = quality[at % (m * n.div_ceil(4))];
        }),
        6 => (0..n).filter(|i| i % 7 == 0).for_each(|i| cost[i * m..(i + 1) * m].iter_mut().for_each(|c| *c *= 1e5)),
        _ => quality.iter_mut().for_each(|a| *a = f64::from(u8::from(*a > 0.5))),
    }
    let (least, most) = (0..n).fold((0.0, 0.0), |(least, most), i| {
        let row = &quality[i * m..(i + 1) * m];
        (least + row.iter().copied().fold(1.0, f64::min), most + row.iter().copied().fold(0.0, f64::max))
    });
    let share = [0.0, 0.5, 0.9, 1.0][rng.below(4)];
    let floor = (least + share * (most - least)) / n as f64;
    let goal = match rng.below(3) {
        0 | 1 => Goal::Quality { min: floor.clamp(0.0, 1.0) },
        _ => Goal::Budget { max: cost.iter().sum::<f64>() / m as f64 * (0.3 + rng.unit()) },
    };
    let mut case = Case::plain(n, m, cost, quality, goal);
    case.capacity = match rng.below(4) {
        0 => None,
        // The capacities sum to the number of queries exactly.
        1 => Some((0..m).map(|j| (n / m + usize::from(j < n % m)) as f64).collect()),
        2 => Some((0..m).map(|_| if rng.chance(0.3) { f64::INFINITY } else { rng.below(n + 1) as f64 }).collect()),
        _ => Some(vec![(1.5 * n as f64 / m as f64).ceil(); m]),
    };
    case
}

fn solved(case: &Case) -> Solution {
    let solution = case.solve(&Options::default());
    check(case, &solution);
    solution
}

fn permuted(case: &Case, order: &[usize]) -> Case {
    let m = case.m;
    let rows = |from: &[f64]| order.iter().flat_map(|&i| from[i * m..(i + 1) * m].to_vec()).collect();
    Case { cost: rows(&case.cost), quality: rows(&case.quality), ..case.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_what_it_says(kind in 0usize..8, seed in any::<u64>()) {
        solved(&family(kind, seed));
    }

    #[test]
    fn the_same_input_gives_the_same_answer(kind in 0usize..8, seed in any::<u64>()) {
        let case = family(kind, seed);
        let (a, b) = (case.solve(&Options::default()), case.solve(&Options::default()));
        prop_assert_eq!(a.model, b.model);
    }

    #[test]
    fn the_order_of_queries_does_not_move_the_bound(kind in 0usize..8, seed in any::<u64>()) {
        let case = family(kind, seed);
        let a = solved(&case);
        if a.status != Status::Overloaded {
            let order: Vec<usize> = (0..case.n).rev().collect();
            let b = solved(&permuted(&case, &order));
            let size = case.cost.iter().copied().fold(0.0, f64::max) * case.n as f64;
            let size = if a.criterion == Criterion::Quality { 1.0 } else { size };
            prop_assert!((a.dual_bound - b.dual_bound).abs() <= 1e-7 * a.dual_bound.abs() + 1e-9 * size);
        }
    }

    #[test]
    fn the_unit_of_cost_does_not_matter(kind in 0usize..8, seed in any::<u64>(), power in -40i32..40) {
        let case = family(kind, seed);
        // A power of two: not a bit changes.
        let unit = f64::from(power).exp2();
        let mut scaled = case.clone();
        scaled.cost.iter_mut().for_each(|c| *c *= unit);
        if let Goal::Budget { max } = &mut scaled.goal {
            *max *= unit;
        }
        let (a, b) = (solved(&case), solved(&scaled));
        prop_assert_eq!(a.model, b.model);
        prop_assert_eq!(a.status, b.status);
        prop_assert_eq!(a.cost * unit, b.cost);
    }

    #[test]
    fn a_model_that_nobody_may_take_changes_nothing(kind in 0usize..8, seed in any::<u64>()) {
        let case = family(kind, seed);
        let (n, m) = (case.n, case.m);
        let wider = |from: &[f64], empty: f64| -> Vec<f64> {
            from.chunks(m).flat_map(|row| row.iter().copied().chain([empty])).collect()
        };
        let mut more = case.clone();
        more.m = m + 1;
        // Whatever stands in a forbidden pair is not looked at.
        more.cost = wider(&case.cost, f64::NAN);
        more.quality = wider(&case.quality, f64::INFINITY);
        more.allowed = Some((0..n * (m + 1)).map(|at| at % (m + 1) < m).collect());
        more.capacity = case.capacity.clone().map(|c| c.into_iter().chain([f64::INFINITY]).collect());
        let (a, b) = (solved(&case), solved(&more));
        prop_assert_eq!(a.status == Status::Overloaded, b.status == Status::Overloaded);
        if a.status != Status::Overloaded && a.criterion == b.criterion {
            let size = case.cost.iter().copied().fold(0.0, f64::max) * n as f64;
            let size = if a.criterion == Criterion::Quality { 1.0 } else { size };
            prop_assert!((a.dual_bound - b.dual_bound).abs() <= 1e-7 * a.dual_bound.abs() + 1e-9 * size);
        }
        prop_assert!(b.model.iter().all(|&j| j < m as i32));
    }
}
