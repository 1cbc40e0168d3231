//! Equal columns: endpoints of one model, against brute force and against the same problem with one column.

mod common;

use common::{Case, Rng, brute, check, pool_like};
use eccos_core::{Criterion, Goal, Options, Pooled, Problem, SideRow, Solution, Status, solve};

/// The case with some of its columns again: `from[j]` is the column that j repeats.
fn repeated(case: &Case, from: &[usize]) -> Case {
    let m = from.len();
    let again = |values: &[f64]| -> Vec<f64> {
        values.chunks_exact(case.m).flat_map(|row| from.iter().map(|&j| row[j])).collect()
    };
    Case {
        m,
        cost: again(&case.cost),
        quality: again(&case.quality),
        load: case.load.as_deref().map(again),
        capacity: case.capacity.as_deref().map(again),
        allowed: case.allowed.as_ref().map(|allowed| {
            allowed.chunks_exact(case.m).flat_map(|row| from.iter().map(|&j| row[j]).collect::<Vec<_>>()).collect()
        }),
        ..case.clone()
    }
}

/// What the multipliers of a solution prove, from the data alone.
fn proven(case: &Case, solution: &Solution) -> f64 {
    let (duals, m) = (&solution.duals, case.m);
    let capacity = |at: usize| case.capacity.as_ref().map_or(f64::INFINITY, |capacity| capacity[at]);
    let (mut sum, mut served) = (0.0, 0.0);
    for (i, _) in solution.model.iter().enumerate().filter(|(_, j)| **j >= 0) {
        served += 1.0;
        let value = |j: usize| {
            let at = i * m + j;
            let loads: f64 = (0..case.resources).map(|r| duals.capacity[r * m + j] * case.load(r, i, j)).sum();
            loads
                + match solution.criterion {
                    Criterion::Quality => duals.requirement * case.cost[at] - case.quality[at],
                    Criterion::Cost | Criterion::Value(_) => case.cost[at] - duals.requirement * case.quality[at],
                }
        };
        sum += (0..m).filter(|&j| case.may(i, j)).map(value).fold(f64::INFINITY, f64::min);
    }
    let prices = duals.capacity.iter().enumerate().filter(|(_, price)| **price > 0.0);
    sum -= prices.map(|(at, price)| price * capacity(at)).sum::<f64>();
    match (solution.criterion, case.goal) {
        (Criterion::Cost, Goal::Quality { min }) => sum + duals.requirement * min * served,
        (Criterion::Quality, Goal::Budget { max }) => -(sum - duals.requirement * max) / served,
        (Criterion::Quality, _) => -sum / served,
        _ => sum,
    }
}

/// Small problems with two or three endpoints of some models: masks, capacities that differ, one of them without a limit.
#[test]
fn small_problems_with_equal_columns_agree_with_brute_force() {
    let mut rng = Rng(11);
    let mut met = 0;
    for _ in 0..400 {
        let (n, m) = (2 + rng.below(4), 1 + rng.below(3));
        let cost = (0..n * m).map(|_| (rng.unit() * 16.0).round() / 16.0).collect();
        let quality = (0..n * m).map(|_| (rng.unit() * 16.0).round() / 16.0).collect();
        let goal = match rng.below(3) {
            0 => Goal::Quality { min: 0.6 * rng.unit() },
            1 => Goal::Budget { max: n as f64 * rng.unit() },
            _ => Goal::Price { value: rng.unit() },
        };
        let mut case = Case::plain(n, m, cost, quality, goal);
        if rng.chance(0.4) {
            let mut allowed: Vec<bool> = (0..n * m).map(|_| rng.chance(0.7)).collect();
            (0..n).for_each(|i| allowed[i * m + rng.below(m)] = true);
            case.allowed = Some(allowed);
        }
        if rng.chance(0.3) {
            case.load = Some((0..n * m).map(|_| 1.0 + rng.below(4) as f64).collect());
        }
        let from: Vec<usize> = (0..m).chain((0..=rng.below(2)).map(|_| rng.below(m))).collect();
        let mut twice = repeated(&case, &from);
        // Halves of a request are no room: two columns with 1.5 serve two requests.
        let draw = |rng: &mut Rng| if rng.chance(0.2) { f64::INFINITY } else { 0.5 * rng.below(2 * n + 1) as f64 };
        twice.capacity = Some((0..from.len()).map(|_| draw(&mut rng)).collect());
        let exact = twice.solve(&Options { tolerance: 0.0, ..Options::default() });
        check(&twice, &exact);
        if twice.load.is_none() {
            let truth = brute(&Case {
                capacity: twice.capacity.as_ref().map(|capacity| capacity.iter().map(|b| b.floor()).collect()),
                ..twice.clone()
            });
            assert_eq!(truth.fits, exact.status != Status::Overloaded, "{twice:?} {exact:?}");
            if let Some(best) = truth.best.filter(|_| truth.fits) {
                assert!((exact.objective - best).abs() <= 1e-7, "{best} {twice:?} {exact:?}");
                met += 1;
            }
        }
    }
    assert!(met > 100, "{met}");
}

/// Answers over endpoints cost what the merged problem costs, keep each endpoint's capacity, and prove their bound.
#[test]
fn endpoints_share_the_queries_of_their_model() {
    let mut rng = Rng(5);
    let (n, m) = (6000, 5);
    for tokens in [false, true] {
        let (cost, quality) = pool_like(&mut rng, n, m);
        let mut one = Case::plain(n, m, cost, quality, Goal::Quality { min: 0.62 });
        one.allowed = Some((0..n * m).map(|at| at % m == 0 || rng.chance(0.9)).collect());
        if tokens {
            one.load = Some((0..n * m).map(|_| (20.0 + 2000.0 * rng.unit() * rng.unit()).round()).collect());
        }
        let unit = if tokens { 520.0 } else { 1.0 };
        one.capacity = Some((0..m).map(|_| (unit * 0.3 * n as f64).round()).collect());
        // Three endpoints of model 2, of which the last has no limit of its own in the second round; two of model 4.
        for open in [false, true] {
            let mut several = repeated(&one, &[0, 1, 2, 3, 4, 2, 2, 4]);
            let capacity = several.capacity.as_mut().expect("set above");
            let whole = capacity[2];
            (capacity[2], capacity[5], capacity[6]) = ((0.1 * whole).round(), (0.4 * whole).round(), 0.0);
            capacity[6] = if open { f64::INFINITY } else { whole - capacity[2] - capacity[5] };
            (capacity[4], capacity[7]) = (0.0, capacity[4]);
            let mut one = one.clone();
            if open {
                one.capacity.as_mut().expect("set above")[2] = f64::INFINITY;
            }
            let (alone, found) = (one.solve(&Options::default()), several.solve(&Options::default()));
            check(&several, &found);
            assert_eq!(found.status, Status::Optimal, "{tokens} {open} {:?}", found.stats);
            assert_eq!((found.cost, found.bound), (alone.cost, alone.bound), "{tokens} {open}");
            assert!((proven(&several, &found) - found.dual_bound).abs() <= 1e-9 * found.dual_bound);
            let count = |j: i32| found.model.iter().filter(|&&chosen| chosen == j).count() as f64;
            assert_eq!(count(4), 0.0, "a column without capacity");
            assert!(count(2) > 0.0 && count(5) > 0.0 && count(6) > 0.0);
            if !open && !tokens {
                let share = |j: i32| count(j) / several.capacity.as_ref().expect("set above")[j as usize];
                assert!((share(2) - share(5)).abs() < 0.01 && (share(5) - share(6)).abs() < 0.01);
            }
            // Its own prices, and those of the problem with one column, are a start that changes nothing.
            let warm = several.solve(&Options { warm: Some(&found.duals), ..Options::default() });
            check(&several, &warm);
            assert!((warm.cost - found.cost).abs() <= 1e-5 * found.cost && warm.bound <= found.cost);
        }
    }
}

/// Loads that fill both endpoints to the last token: what is dealt out is exchanged until it fits.
#[test]
fn loads_that_leave_no_token_to_spare_fit_each_endpoint() {
    let mut rng = Rng(8);
    let (n, m) = (5000, 3);
    let (cost, quality) = pool_like(&mut rng, n, m);
    let mut one = Case::plain(n, m, cost, quality, Goal::Price { value: 1.0 });
    one.load = Some((0..n).flat_map(|_| vec![(30.0 + 900.0 * rng.unit()).round(); m]).collect());
    one.capacity = Some(vec![f64::INFINITY, f64::INFINITY, 0.2 * 480.0 * n as f64]);
    let filled = one.solve(&Options::default());
    let used: f64 = (0..n).filter(|&i| filled.model[i] == 2).map(|i| one.load(0, i, 2)).sum();
    let mut two = repeated(&one, &[0, 1, 2, 2]);
    let capacity = two.capacity.as_mut().expect("set above");
    // Exactly what the best answer uses, in two parts.
    (capacity[2], capacity[3]) = ((0.37 * used).floor(), used - (0.37 * used).floor());
    one.capacity.as_mut().expect("set above")[2] = used;
    let (alone, found) = (one.solve(&Options::default()), two.solve(&Options::default()));
    check(&two, &found);
    assert_eq!(found.status, Status::Optimal);
    assert_eq!(found.cost, alone.cost);
}

/// Columns that differ in one query, in its mask, its load or a side row, or in their pools, are not one model.
#[test]
fn columns_that_differ_anywhere_stay_apart() {
    let (n, m) = (900, 2);
    let base = || {
        let mut case = Case::plain(n, m, vec![1.0; n * m], vec![0.5; n * m], Goal::Price { value: 0.0 });
        case.capacity = Some(vec![f64::INFINITY; m]);
        case
    };
    let last = n * m - 1 - 2 * 37;
    let query = last / m;
    let run = |case: &Case, pools: &[Pooled<'_>], rows: &[SideRow<'_>]| {
        let problem = Problem::new(eccos_core::Inputs { pools, rows, ..case.inputs() }).expect("well formed");
        let solution = solve(&problem, &Options::default()).expect("fine");
        assert_eq!(solution.status, Status::Optimal);
        solution
    };
    let mut cheaper = base();
    cheaper.cost[last] = 0.25;
    let found = run(&cheaper, &[], &[]);
    assert_eq!((found.model[query], found.cost), (1, n as f64 - 0.75));
    let mut barred = base();
    barred.allowed = Some((0..n * m).map(|at| at != last - 1).collect());
    assert_eq!(run(&barred, &[], &[]).model[query], 1);
    // Model 0 is in a pool for one request, model 1 is not.
    let pool = [Pooled { models: &[true, false], resource: 0, capacity: 1.0 }];
    assert!(run(&base(), &pool, &[]).model.iter().filter(|&&j| j == 0).count() <= 1);
    // Only the second column counts for a side row, in one query.
    let mut values = vec![0.0; n * m];
    values[last] = 1.0;
    let values = eccos_core::Matrix::F64(&values);
    let row = [SideRow { values, members: None, at_least: true, mean: false, limit: 1.0 }];
    assert_eq!(run(&base(), &[], &row).model[query], 1);
}

/// Equal columns in the same pool are one model; the pool's own limit holds and has a price.
#[test]
fn equal_columns_in_one_pool_are_merged_and_the_pool_holds() {
    let mut rng = Rng(21);
    let (n, m) = (3000, 4);
    let (cost, quality) = pool_like(&mut rng, n, m);
    let one = Case::plain(n, m, cost, quality, Goal::Quality { min: 0.6 });
    let two = repeated(&one, &[0, 1, 2, 3, 3]);
    let run = |case: &Case, models: &[bool]| {
        let pools = [Pooled { models, resource: 0, capacity: 400.0 }];
        let problem = Problem::new(eccos_core::Inputs { pools: &pools, ..case.inputs() }).expect("well formed");
        solve(&problem, &Options::default()).expect("fine")
    };
    let alone = run(&one, &[false, false, true, true]);
    let found = run(&two, &[false, false, true, true, true]);
    check(&two, &found);
    assert_eq!((found.cost, found.bound, &found.pool_price), (alone.cost, alone.bound, &alone.pool_price));
    assert!(found.pool_price[0] > 0.0);
    assert!(found.model.iter().filter(|&&j| j >= 2).count() <= 400);
    assert!(found.model.contains(&3) && found.model.contains(&4));
}
