//! Screening against the whole program solved at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::options::Options;
use crate::problem::{Goal, Inputs, Matrix, Problem};
use crate::relax;

/// Kinds of data that have broken such methods before.
fn data(kind: usize, n: usize, m: usize) -> (Vec<f64>, Vec<f64>) {
    let unit = |i: usize, j: usize, salt: u64| hash((i * m + j) as u64, 1000 + salt);
    let mut cost = vec![];
    let mut quality = vec![];
    for i in 0..n {
        let i = if kind == 3 { i % 40 } else { i };
        for j in 0..m {
            let j = if kind == 4 { j / 2 * 2 } else { j };
            let dear = (1.0 + j as f64) * (0.3 + unit(i, 0, 7)) * (0.5 + unit(i, j, 1));
            let good = (0.25 * unit(i, 0, 9) + 0.5 * unit(i, j, 2) + 0.25 * j as f64 / m as f64).min(1.0);
            cost.push(match kind {
                1 => 1.0,
                2 => 0.0,
                5 if i % 500 == 0 => dear * 1e5,
                6 => dear.ceil(),
                _ => dear,
            });
            quality.push(if kind == 6 { (good * 16.0).round() / 16.0 } else { good });
        }
    }
    (cost, quality)
}

#[test]
fn the_screened_relaxation_is_the_whole_one() {
    let (n, m) = (6_000, 6);
    for kind in 0..7 {
        let (cost, quality) = data(kind, n, m);
        let (cost32, quality32): (Vec<f32>, Vec<f32>) =
            (cost.iter().map(|&x| x as f32).collect(), quality.iter().map(|&x| x as f32).collect());
        let total: f64 = cost.iter().sum::<f64>() / m as f64;
        for (slots, goal) in [
            (1.5, Goal::Quality { min: 0.62 }),
            (1.0, Goal::Quality { min: 0.6 }),
            (1.2, Goal::Budget { max: 0.7 * total }),
            (1.2, Goal::Price { value: 2.0 }),
        ] {
            let capacity = vec![(slots * n as f64 / m as f64).floor(); m];
            let inputs = Inputs {
                capacity: Some(&capacity),
                ..Inputs::new(n, m, Matrix::F32(&cost32), Matrix::F32(&quality32), goal)
            };
            let problem = Problem::new(inputs).expect("well formed");
            let prepared = Prepared::stated(&problem, None);
            let control = Control::new(&Options::default(), Instant::now());
            let mut work = Work::default();
            let whole = relax::direct(&prepared, &vec![0.0; prepared.rows()], &control, &mut work);
            let screened = solve(&prepared, None, Some(1), &control, &mut work, true).expect("insisted");
            assert_eq!(whole.outcome, screened.outcome, "{kind} {goal:?}");
            if whole.outcome == Outcome::Optimal {
                let size = 1.0 + whole.bound.abs();
                let apart = (whole.bound - screened.bound).abs();
                assert!(apart <= 1e-8 * size, "{kind} {goal:?}: {} {}", whole.bound, screened.bound);
                let again = dual_value(&prepared, &whole.places, &prepared.limit, &screened.state.y);
                assert!(
                    (again - screened.bound).abs() <= 1e-10 * size,
                    "the bound is g(y): {again} {}",
                    screened.bound
                );
            }
        }
    }
}

#[test]
fn a_bound_that_was_cut_short_still_holds() {
    let (n, m) = (6_000, 6);
    let (cost, quality) = data(0, n, m);
    let capacity = vec![(1.2 * n as f64 / m as f64).floor(); m];
    let inputs = Inputs {
        capacity: Some(&capacity),
        ..Inputs::new(n, m, Matrix::F64(&cost), Matrix::F64(&quality), Goal::Quality { min: 0.62 })
    };
    let problem = Problem::new(inputs).expect("well formed");
    let prepared = Prepared::stated(&problem, None);
    let (mut work, free) = (Work::default(), Control::new(&Options::default(), Instant::now()));
    let best = relax::direct(&prepared, &vec![0.0; prepared.rows()], &free, &mut work).bound;
    let mut cut = 0;
    for patience in 0..12 {
        let polls = AtomicUsize::new(0);
        let stop = || polls.fetch_add(1, Ordering::Relaxed) >= patience;
        let options = Options { stop: Some(&stop), ..Options::default() };
        let control = Control::new(&options, Instant::now());
        let screened = solve(&prepared, None, Some(1), &control, &mut work, true).expect("insisted");
        assert!(screened.bound <= best * (1.0 + 1e-9), "after {patience} polls: {} {best}", screened.bound);
        assert!(screened.key.len() == n);
        cut += usize::from(screened.outcome == Outcome::Limit);
    }
    assert!(cut > 0, "the flag ended some of them");
}
