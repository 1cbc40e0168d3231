//! Anything at all as input: it is refused with a sentence, or solved with an answer that keeps what it claims.
//!
//! `cargo +nightly fuzz run solve` in `rust/eccos-core`.

#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use eccos_core::{Goal, Inputs, Matrix, Options, Problem, Status, Unroutable, solve};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    queries: u8,
    models: u8,
    cost: Vec<f32>,
    quality: Vec<u8>,
    mode: u8,
    wanted: f64,
    resources: u8,
    load: Option<Vec<u8>>,
    capacity: Option<Vec<u8>>,
    allowed: Option<Vec<bool>>,
    floor: Option<Vec<u8>>,
    priority: Option<Vec<i8>>,
    group: Option<Vec<u8>>,
    group_floor: Option<Vec<u8>>,
    exact: bool,
    defer: bool,
}

/// The given numbers, repeated to the length wanted.
fn fit<T: Copy, U>(from: &[T], count: usize, map: impl Fn(T) -> U) -> Vec<U> {
    from.iter().cycle().take(if from.is_empty() { 0 } else { count }).map(|&x| map(x)).collect()
}

fuzz_target!(|input: Input| {
    let (n, m) = (usize::from(input.queries % 24), usize::from(input.models % 9));
    let resources = usize::from(input.resources % 3);
    let share = |x: u8| f64::from(x) / 255.0;
    let cost = fit(&input.cost, n * m, |c| c);
    let quality = fit(&input.quality, n * m, |a| f32::from(a) / 255.0);
    let load = input.load.as_ref().map(|w| fit(w, resources * n * m, f32::from));
    let capacity = input
        .capacity
        .as_ref()
        .map(|c| fit(c, resources * m, |x| if x == 255 { f64::INFINITY } else { f64::from(x) }));
    let allowed = input.allowed.as_ref().map(|a| fit(a, n * m, |x| x));
    let floor = input.floor.as_ref().map(|f| fit(f, n, |x| if x == 0 { f64::NAN } else { share(x) }));
    let priority = input.priority.as_ref().map(|p| fit(p, n, i64::from));
    let group = input.group.as_ref().map(|g| fit(g, n, |x| u32::from(x % 4)));
    let group_floor = input.group_floor.as_ref().map(|f| fit(f, 4, |x| if x > 200 { f64::NAN } else { share(x) }));
    let goal = match input.mode % 3 {
        0 => Goal::Quality { min: input.wanted },
        1 => Goal::Budget { max: input.wanted },
        _ => Goal::Price { value: input.wanted },
    };
    let inputs = Inputs {
        resources,
        load: load.as_deref().map(Matrix::F32),
        capacity: capacity.as_deref(),
        allowed: allowed.as_deref(),
        query_floor: floor.as_deref(),
        priority: priority.as_deref(),
        group: group.as_deref(),
        group_min_quality: group_floor.as_deref(),
        unroutable: if input.defer { Unroutable::Defer } else { Unroutable::Refuse },
        ..Inputs::new(n, m, Matrix::F32(&cost), Matrix::F32(&quality), goal)
    };
    let Ok(problem) = Problem::new(inputs) else { return };
    let options = Options {
        tolerance: if input.exact { 0.0 } else { 1e-4 },
        node_limit: Some(500),
        time_limit: Some(Duration::from_millis(500)),
        ..Options::default()
    };
    let answer = solve(&problem, &options).expect("the options are fine");
    assert_eq!(answer.model.len(), n);
    let mut used = vec![0.0; m];
    for (i, &j) in answer.model.iter().enumerate().filter(|(_, j)| **j >= 0) {
        assert!(allowed.as_ref().is_none_or(|a| a[i * m + j as usize]), "a forbidden pair");
        used[j as usize] += 1.0;
    }
    if let (Some(capacity), None) = (&capacity, &load) {
        assert!(used.iter().zip(capacity).all(|(used, limit)| used <= limit), "over a capacity");
    }
    if matches!(answer.status, Status::Optimal | Status::Feasible) {
        assert_eq!(answer.violation, 0.0);
    }
});
