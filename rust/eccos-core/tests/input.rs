//! What is refused, with which words; and the shapes at the edge that are not.

mod common;

use common::{Case, Rng, check, pool_like};
use eccos_core::{Goal, Inputs, Matrix, Options, Problem, Status, Unroutable, solve};

const COST: [f64; 4] = [1.0, 2.0, 3.0, 4.0];
const QUALITY: [f64; 4] = [0.1, 0.2, 0.3, 0.4];

fn plain() -> Inputs<'static> {
    Inputs::new(2, 2, Matrix::F64(&COST), Matrix::F64(&QUALITY), Goal::Quality { min: 0.2 })
}

#[track_caller]
fn refused(inputs: &Inputs<'_>, words: &[&str]) {
    let sentence = Problem::new(*inputs).expect_err("must be refused").to_string();
    for word in words {
        assert!(sentence.contains(word), "{sentence:?} does not say {word:?}");
    }
}

#[test]
fn shapes_are_named() {
    refused(&Inputs { models: 0, ..plain() }, &["pool has 0 models"]);
    refused(&Inputs { models: 257, ..plain() }, &["pool has 257 models", "256"]);
    refused(&Inputs { cost: Matrix::F64(&COST[..3]), ..plain() }, &["cost", "3 entries", "wanted 4"]);
    refused(&Inputs { quality: Matrix::F32(&[0.5]), ..plain() }, &["quality", "1 entries", "wanted 4"]);
    refused(&Inputs { load: Some(Matrix::F64(&COST)), resources: 2, ..plain() }, &["load", "wanted 8"]);
    refused(&Inputs { resources: 2, ..plain() }, &["more than one resource", "load"]);
    refused(&Inputs { capacity: Some(&[1.0]), ..plain() }, &["capacity", "wanted 2"]);
    refused(&Inputs { allowed: Some(&[true]), ..plain() }, &["allowed", "wanted 4"]);
    refused(&Inputs { query_floor: Some(&[0.1]), ..plain() }, &["query_floor", "wanted 2"]);
    refused(&Inputs { priority: Some(&[1]), ..plain() }, &["priority", "wanted 2"]);
    refused(&Inputs { group_budget: Some(&[1.0]), ..plain() }, &["group_budget", "without group"]);
    refused(&Inputs { group: Some(&[0, 0]), ..plain() }, &["group", "group_min_quality or group_budget"]);
    let groups = Inputs { group: Some(&[0, 2]), group_budget: Some(&[1.0, 1.0]), ..plain() };
    refused(&groups, &["group[1] is 2"]);
}

#[test]
fn values_are_named() {
    for (min, word) in [(1.5, "1.5"), (-0.1, "-0.1"), (f64::NAN, "NaN")] {
        refused(&Inputs { goal: Goal::Quality { min }, ..plain() }, &["min_quality", word, "[0, 1]"]);
    }
    refused(&Inputs { goal: Goal::Budget { max: -1.0 }, ..plain() }, &["budget", "-1", ">= 0"]);
    refused(&Inputs { goal: Goal::Price { value: f64::INFINITY }, ..plain() }, &["quality_value", "inf"]);
    refused(&Inputs { capacity: Some(&[1.0, f64::NAN]), ..plain() }, &["capacity[0, 1]", "NaN"]);
    refused(&Inputs { query_floor: Some(&[0.1, 1.1]), ..plain() }, &["query_floor[1]", "1.1"]);
    let limits = Inputs { group: Some(&[0, 0]), group_min_quality: Some(&[7.0]), ..plain() };
    refused(&limits, &["group_min_quality[0]", "7"]);
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        refused(
            &Inputs { cost: Matrix::F64(&[1.0, bad, 1.0, 1.0]), ..plain() },
            &["cost[0, 1]", "finite number >= 0"],
        );
        let single = [1.0, 1.0, bad as f32, 1.0];
        refused(&Inputs { cost: Matrix::F32(&single), ..plain() }, &["cost[1, 0]"]);
        refused(&Inputs { load: Some(Matrix::F64(&[1.0, bad, 1.0, 1.0])), ..plain() }, &["load[0, 0, 1]"]);
    }
    for bad in [-0.1, 1.1, f64::NAN] {
        refused(&Inputs { quality: Matrix::F64(&[0.5, 0.5, 0.5, bad]), ..plain() }, &["quality[1, 1]", "[0, 1]"]);
    }
    let problem = Problem::new(plain()).expect("well formed");
    let options = Options { tolerance: f64::NAN, ..Options::default() };
    assert!(solve(&problem, &options).expect_err("refused").to_string().contains("tolerance is NaN"));
}

#[test]
fn a_query_without_a_model_is_named_or_left_out() {
    let allowed = [true, true, false, false];
    let masked = Inputs { allowed: Some(&allowed), ..plain() };
    refused(&masked, &["query 1", "allowed has no model"]);
    let floored = Inputs { query_floor: Some(&[0.15, 0.5]), ..plain() };
    refused(&floored, &["query 1", "query_floor is 0.5", "quality 0.4"]);
    for inputs in [masked, floored] {
        let inputs = Inputs { unroutable: Unroutable::Defer, ..inputs };
        let problem = Problem::new(inputs).expect("the others can be served");
        let solution = solve(&problem, &Options::default()).expect("options are fine");
        assert_eq!(solution.model, vec![1, -1]);
        assert_eq!(solution.quality, 0.2);
    }
}

#[test]
fn what_stands_in_a_forbidden_pair_is_not_looked_at() {
    let (cost, quality) = ([1.0, f64::NAN, -3.0, 4.0], [0.1, f64::NAN, 9.0, 0.4]);
    let allowed = [true, false, false, true];
    let inputs = Inputs {
        allowed: Some(&allowed),
        ..Inputs::new(2, 2, Matrix::F64(&cost), Matrix::F64(&quality), Goal::Quality { min: 0.2 })
    };
    let solution = solve(&Problem::new(inputs).expect("well formed"), &Options::default()).expect("options");
    assert_eq!((solution.model, solution.cost), (vec![0, 1], 5.0));
}

#[test]
fn an_empty_batch_is_an_empty_answer() {
    for capacity in [None, Some(vec![0.0, 5.0])] {
        for goal in [Goal::Quality { min: 0.9 }, Goal::Budget { max: 0.0 }] {
            let case = Case { capacity: capacity.clone(), ..Case::plain(0, 2, vec![], vec![], goal) };
            let solution = case.solve(&Options::default());
            assert_eq!((solution.status, solution.model.len(), solution.cost), (Status::Optimal, 0, 0.0));
            assert!(solution.quality.is_nan());
        }
    }
}

#[test]
fn the_widest_pool_and_a_single_pair() {
    for (n, m) in [(1, 1), (1, 256), (300, 256), (500, 1)] {
        let (cost, quality) = pool_like(&mut Rng(3), n, m);
        let mut case = Case::plain(n, m, cost, quality, Goal::Quality { min: 0.3 });
        case.capacity = Some(vec![(2.0 * n as f64 / m as f64).ceil(); m]);
        let solution = case.solve(&Options::default());
        check(&case, &solution);
        assert!(matches!(solution.status, Status::Optimal | Status::Feasible), "{n}x{m}: {:?}", solution.status);
    }
}

#[test]
fn too_many_limits_are_refused() {
    let (groups, members) = (vec![1.0; 5000], vec![0u32, 4999]);
    refused(
        &Inputs { group: Some(&members), group_budget: Some(&groups), ..plain() },
        &["5000 finite limits", "4096"],
    );
}
