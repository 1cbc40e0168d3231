//! Batches that are sampled and screened: same answer with any number of threads and either precision, honest when cut short.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Case, Rng, check, pool_like};
use eccos_core::{Goal, Inputs, Matrix, Options, Problem, Solution, Status, solve};

fn case(n: usize, m: usize, seed: u64) -> Case {
    let (cost, quality) = pool_like(&mut Rng(seed), n, m);
    // Numbers that single precision holds exactly, so that both precisions state the same problem.
    let round = |x: Vec<f64>| x.into_iter().map(|x| f64::from(x as f32)).collect::<Vec<_>>();
    let mut case = Case::plain(n, m, round(cost), round(quality), Goal::Quality { min: 0.6 });
    case.capacity = Some(vec![(1.5 * n as f64 / m as f64).floor(); m]);
    case
}

fn solve_single(case: &Case, options: &Options<'_>) -> Solution {
    let cost: Vec<f32> = case.cost.iter().map(|&x| x as f32).collect();
    let quality: Vec<f32> = case.quality.iter().map(|&x| x as f32).collect();
    let load: Option<Vec<f32>> = case.load.as_ref().map(|w| w.iter().map(|&x| x as f32).collect());
    let inputs = Inputs {
        cost: Matrix::F32(&cost),
        quality: Matrix::F32(&quality),
        load: load.as_deref().map(Matrix::F32),
        ..case.inputs()
    };
    solve(&Problem::new(inputs).expect("well formed"), options).expect("options are fine")
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let case = case(200_000, 6, 3);
    let answer = |threads| solve_single(&case, &Options { threads: Some(threads), ..Options::default() });
    let one = answer(1);
    check(&case, &one);
    assert_eq!(one.status, Status::Optimal);
    assert!(one.gap < 1e-5, "{}", one.gap);
    for threads in [2, 3, 8] {
        let other = answer(threads);
        assert_eq!(one.model, other.model);
        assert_eq!((one.bound, one.objective), (other.bound, other.objective));
    }
}

#[test]
fn both_precisions_agree() {
    let case = case(30_000, 7, 5);
    let (single, double) = (solve_single(&case, &Options::default()), case.solve(&Options::default()));
    check(&case, &single);
    assert_eq!(single.model, double.model);
}

#[test]
fn several_loads_and_masks_are_screened() {
    let mut rng = Rng(11);
    let mut case = case(12_000, 5, 8);
    let size = case.n * case.m;
    case.allowed = Some((0..size).map(|at| at % case.m == 2 || rng.chance(0.8)).collect());
    for resources in [1, 2] {
        case.resources = resources;
        case.load = Some((0..resources * size).map(|_| 1.0 + rng.below(900) as f64).collect());
        let demand = 450.0 * case.n as f64;
        case.capacity = Some(vec![1.6 * demand / case.m as f64; resources * case.m]);
        let solution = case.solve(&Options::default());
        check(&case, &solution);
        assert!(solution.gap < 2e-4, "{resources}: {}", solution.gap);
        assert!(matches!(solution.status, Status::Optimal | Status::Feasible));
    }
}

#[test]
fn groups_are_screened() {
    let mut rng = Rng(21);
    let mut case = case(12_000, 5, 9);
    case.group = Some((0..case.n).map(|_| rng.below(3) as u32).collect());
    case.group_floor = Some(vec![0.65, f64::NAN, 0.5]);
    case.group_budget = Some(vec![f64::NAN, 2.0, f64::NAN]);
    let solution = case.solve(&Options::default());
    check(&case, &solution);
    assert!(
        matches!(solution.status, Status::Optimal | Status::Feasible),
        "{:?} {:?}",
        solution.status,
        solution.explanation
    );
    assert!(solution.gap < 2e-4, "{}", solution.gap);
    assert!(solution.duals.group_quality[0] > 0.0, "the floor binds");
}

#[test]
fn what_cannot_be_met_is_proven() {
    let mut case = case(40_000, 6, 13);
    case.goal = Goal::Quality { min: 0.999 };
    let solution = case.solve(&Options::default());
    check(&case, &solution);
    assert_eq!(solution.status, Status::QualityUnreachable);
    assert!(solution.gap < 1e-6, "the highest quality there is: {}", solution.gap);
    let explanation = solution.explanation.expect("explained");
    case.goal = Goal::Quality { min: explanation.repair.min_quality.expect("a lower floor") };
    assert!(matches!(case.solve(&Options::default()).status, Status::Optimal | Status::Feasible));
}

#[test]
fn a_limit_ends_it_honestly() {
    let case = case(100_000, 10, 17);
    let start = Instant::now();
    let limited = case.solve(&Options { time_limit: Some(Duration::from_micros(200)), ..Options::default() });
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(limited.stats.interrupted);
    check(&case, &limited);
    let polls = AtomicUsize::new(0);
    let stop = || polls.fetch_add(1, Ordering::Relaxed) >= 1;
    let stopped = case.solve(&Options { stop: Some(&stop), ..Options::default() });
    assert!(stopped.stats.interrupted && polls.load(Ordering::Relaxed) > 1);
    check(&case, &stopped);
}

#[test]
fn a_warm_start_changes_the_way_not_the_answer() {
    let mut case = case(5_000, 8, 23);
    let cold = case.solve(&Options::default());
    case.goal = Goal::Quality { min: 0.605 };
    let (fresh, warm) =
        (case.solve(&Options::default()), case.solve(&Options { warm: Some(&cold.duals), ..Options::default() }));
    check(&case, &warm);
    assert!((fresh.dual_bound - warm.dual_bound).abs() < 1e-8 * fresh.dual_bound);
    let other = self::case(5_000, 3, 1);
    check(&other, &other.solve(&Options { warm: Some(&cold.duals), ..Options::default() }));
}
