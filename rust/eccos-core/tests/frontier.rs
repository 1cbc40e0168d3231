//! The frontier against the bounds of single solves.

mod common;

use common::{Case, Rng, pool_like};
use eccos_core::{Goal, Options, Problem, frontier};

fn check_curve(case: &Case, most: usize) {
    let problem = Problem::new(case.inputs()).expect("well formed");
    let curve = frontier(&problem, &Options::default(), most).expect("options are fine");
    assert!(curve.complete);
    assert!(curve.quality.windows(2).all(|q| q[0] < q[1] + 1e-12), "{curve:?}");
    assert!(curve.price.windows(2).all(|p| p[0] <= p[1] * (1.0 + 1e-6) + 1e-12), "prices rise: {curve:?}");
    let cheapest = Case { goal: Goal::Budget { max: 0.0 }, ..case.clone() };
    let dearest = Case { goal: Goal::Quality { min: 1.0 }, ..case.clone() };
    let ends = (cheapest.solve(&Options::default()), dearest.solve(&Options::default()));
    let last = curve.cost.len() - 1;
    assert!((curve.cost[0] - ends.0.cost).abs() <= 1e-7 * ends.0.cost, "{} {}", curve.cost[0], ends.0.cost);
    assert!((curve.quality[last] - ends.1.quality).abs() <= 1e-7, "{} {}", curve.quality[last], ends.1.quality);
    for t in (0..=last).step_by(1 + last / 20) {
        // On a corner, and half-way to the next.
        let next = (t + 1).min(last);
        let middle = (0.5 * (curve.quality[t] + curve.quality[next]), 0.5 * (curve.cost[t] + curve.cost[next]));
        for (quality, cost) in [(curve.quality[t], curve.cost[t]), middle] {
            if most < 1000 && quality != curve.quality[t] {
                continue;
            }
            let asked = Case { goal: Goal::Quality { min: quality * (1.0 - 1e-9) }, ..case.clone() };
            let solution = asked.solve(&Options::default());
            let bound = solution.dual_bound;
            // A floor is relaxed by 1e-9 here and by as much inside; on a steep segment that is worth something.
            let relaxed = 2e-9 * quality * solution.quality_price;
            assert!(
                (bound - cost).abs() <= 1e-7 * cost + relaxed,
                "at {quality}: {cost} on the curve, {bound} solved"
            );
        }
    }
}

#[test]
fn corners_are_the_optima_of_the_relaxation() {
    for seed in 0..12 {
        let mut rng = Rng(seed);
        let (n, m) = (5 + rng.below(60), 2 + rng.below(6));
        let (cost, quality) = pool_like(&mut rng, n, m);
        let mut case = Case::plain(n, m, cost, quality, Goal::Quality { min: 0.0 });
        check_curve(&case, 100_000);
        case.capacity = Some((0..m).map(|_| (n as f64 / m as f64 * (1.0 + rng.unit())).ceil()).collect());
        check_curve(&case, 100_000);
    }
}

#[test]
fn a_long_curve_is_thinned_evenly_and_keeps_its_ends() {
    let (cost, quality) = pool_like(&mut Rng(7), 400, 5);
    let case = Case::plain(400, 5, cost, quality, Goal::Quality { min: 0.0 });
    check_curve(&case, 30);
    let problem = Problem::new(case.inputs()).expect("well formed");
    assert_eq!(frontier(&problem, &Options::default(), 30).expect("options").quality.len(), 30);
}

/// Long enough that the walk leaves most queries out and changes its box many times.
#[test]
fn many_queries_are_walked_in_boxes() {
    let mut rng = Rng(3);
    let (n, m) = (2500, 5);
    let (cost, quality) = pool_like(&mut rng, n, m);
    let mut case = Case::plain(n, m, cost, quality, Goal::Quality { min: 0.0 });
    case.capacity = Some((0..m).map(|_| (n as f64 / m as f64 * (1.0 + rng.unit())).ceil()).collect());
    check_curve(&case, 100_000);
    // The same queries, two of the models at two endpoints each: the same curve.
    let alone = frontier(&Problem::new(case.inputs()).expect("well formed"), &Options::default(), 500);
    let again = |row: &[f64]| [row, &row[1..3]].concat();
    let mut two = Case { m: m + 2, ..case.clone() };
    two.cost = case.cost.chunks_exact(m).flat_map(again).collect();
    two.quality = case.quality.chunks_exact(m).flat_map(again).collect();
    let capacity = case.capacity.as_mut().expect("set above");
    let half = |x: f64| (0.5 * x).floor();
    let parts = [capacity[0], half(capacity[1]), capacity[2] - 10.0, capacity[3], capacity[4]];
    two.capacity = Some([&parts[..], &[capacity[1] - half(capacity[1]), 10.0]].concat());
    let found = frontier(&Problem::new(two.inputs()).expect("well formed"), &Options::default(), 500);
    assert_eq!(found.expect("options"), alone.expect("options"));
    // Loads of their own.
    case.load = Some((0..n * m).map(|_| (20.0 + 900.0 * rng.unit()).round()).collect());
    case.capacity = Some((0..m).map(|_| (470.0 * n as f64 / m as f64 * (1.1 + rng.unit())).ceil()).collect());
    let problem = Problem::new(case.inputs()).expect("well formed");
    let curve = frontier(&problem, &Options::default(), 100_000).expect("options");
    assert!(curve.complete && curve.quality.len() > n);
    for t in (0..curve.quality.len()).step_by(curve.quality.len() / 12) {
        let asked = Case { goal: Goal::Quality { min: curve.quality[t] * (1.0 - 1e-9) }, ..case.clone() };
        let found = asked.solve(&Options::default());
        let relaxed = 2e-9 * curve.quality[t] * found.quality_price;
        assert!((found.dual_bound - curve.cost[t]).abs() <= 1e-7 * curve.cost[t] + relaxed, "{t}");
    }
}
