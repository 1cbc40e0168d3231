//! Who is served when not everything fits: against augmenting paths over single slots.

mod common;

use common::{Case, Rng, check};
use eccos_core::{Goal, Options, Reason, Status};

fn overloaded(rng: &mut Rng) -> Case {
    let (n, m) = (1 + rng.below(12), 1 + rng.below(4));
    let cost = (0..n * m).map(|_| rng.unit()).collect();
    let quality = (0..n * m).map(|_| rng.unit()).collect();
    let goal = match rng.below(3) {
        0 => Goal::Quality { min: 0.3 * rng.unit() },
        1 => Goal::Budget { max: n as f64 },
        _ => Goal::Price { value: rng.unit() },
    };
    let mut case = Case::plain(n, m, cost, quality, goal);
    case.capacity = Some((0..m).map(|_| rng.below(1 + n) as f64 * 0.6).collect());
    if rng.chance(0.7) {
        let mut allowed: Vec<bool> = (0..n * m).map(|_| rng.chance(0.5)).collect();
        for i in 0..n {
            allowed[i * m + rng.below(m)] = true;
        }
        case.allowed = Some(allowed);
    }
    if rng.chance(0.7) {
        case.priority = Some((0..n).map(|_| rng.below(3) as i64 - 1).collect());
    }
    case
}

/// Looks for a slot for query i along an augmenting path.
fn free(case: &Case, slots: &[usize], holder: &mut [Option<usize>], seen: &mut [bool], i: usize) -> bool {
    for s in 0..slots.len() {
        if seen[s] || !case.may(i, slots[s]) {
            continue;
        }
        seen[s] = true;
        if holder[s].is_none_or(|other| free(case, slots, holder, seen, other)) {
            holder[s] = Some(i);
            return true;
        }
    }
    false
}

/// The lexicographically best set: every query in turn is taken when a slot can be freed for it.
fn best_set(case: &Case) -> Vec<bool> {
    let slots: Vec<usize> = (0..case.m)
        .flat_map(|j| std::iter::repeat_n(j, case.capacity.as_ref().expect("capacities")[j].floor() as usize))
        .collect();
    let mut holder: Vec<Option<usize>> = vec![None; slots.len()];
    let mut order: Vec<usize> = (0..case.n).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(case.priority.as_ref().map_or(0, |p| p[i])));
    let mut served = vec![false; case.n];
    for i in order {
        served[i] = free(case, &slots, &mut holder, &mut vec![false; slots.len()], i);
    }
    served
}

#[test]
fn serves_the_best_set_by_priority() {
    let mut overloads = 0;
    for seed in 0..3000 {
        let case = overloaded(&mut Rng(seed));
        let solution = case.solve(&Options::default());
        check(&case, &solution);
        let served: Vec<bool> = solution.model.iter().map(|&j| j >= 0).collect();
        assert_eq!(served, best_set(&case), "{case:?} {solution:?}");
        if served.contains(&false) {
            overloads += 1;
            assert_eq!(solution.status, Status::Overloaded);
            let explanation = solution.explanation.expect("an overload is explained");
            let count = served.iter().filter(|s| **s).count();
            assert_eq!(explanation.reasons[0], Reason::CapacityShort { demand: case.n, served: count });
        }
    }
    assert!(overloads > 1000, "{overloads}");
}

#[test]
fn the_growth_it_names_serves_everything() {
    let mut tried = 0;
    for seed in 0..1500 {
        let mut case = overloaded(&mut Rng(seed));
        case.goal = Goal::Price { value: 1.0 };
        let solution = case.solve(&Options::default());
        if solution.status != Status::Overloaded {
            continue;
        }
        let deferred = solution.model.iter().filter(|j| **j < 0).count() as f64;
        let repair = solution.explanation.expect("an overload is explained").repair;
        let capacity = case.capacity.as_mut().expect("capacities");
        let mut more = 0.0;
        for (resource, model, growth) in repair.capacity {
            assert_eq!(resource, 0);
            capacity[model] = capacity[model].floor() + growth;
            more += growth;
        }
        assert!((more - deferred).abs() < 1e-6, "each deferred query needs one slot: {more} {deferred}");
        assert_ne!(case.solve(&Options::default()).status, Status::Overloaded);
        tried += 1;
    }
    assert!(tried > 500);
}

#[test]
fn deferral_is_not_by_cutting_the_tail() {
    // The first query may only use the full model; the last is of high priority and must push it out.
    let mut case = Case::plain(3, 2, vec![1.0; 6], vec![0.5; 6], Goal::Price { value: 0.0 });
    case.capacity = Some(vec![1.0, 1.0]);
    case.allowed = Some(vec![true, false, true, true, true, false]);
    case.priority = Some(vec![0, 0, 5]);
    assert_eq!(case.solve(&Options::default()).model, vec![-1, 1, 0]);
}
