//! The golden problems of `tests/data`, which Python reads too: a proven optimum for each.

mod common;

use std::path::PathBuf;

use common::{Case, check};
use eccos_core::{Goal, Options};
use serde_json::Value;

fn numbers(value: &Value, empty: f64) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(|item| numbers(item, empty)).collect(),
        Value::Null => vec![empty],
        Value::Bool(flag) => vec![f64::from(u8::from(*flag))],
        other => vec![other.as_f64().expect("a number")],
    }
}

/// Number of indices of a nested list.
fn depth(value: &Value) -> usize {
    value.as_array().map_or(0, |items| 1 + items.first().map_or(0, depth))
}

fn read(problem: &Value) -> Case {
    let list = |name: &str, empty: f64| problem.get(name).filter(|v| !v.is_null()).map(|v| numbers(v, empty));
    let scalar = |name: &str| problem.get(name).and_then(Value::as_f64);
    let n = problem["cost"].as_array().expect("rows").len();
    let m = problem["cost"][0].as_array().expect("columns").len();
    let goal = match (scalar("min_quality"), scalar("budget"), scalar("quality_value")) {
        (Some(min), _, _) => Goal::Quality { min },
        (_, Some(max), _) => Goal::Budget { max },
        (_, _, value) => Goal::Price { value: value.expect("one of three goals") },
    };
    let floor = list("query_floor", f64::NAN);
    Case {
        resources: problem
            .get("load")
            .filter(|load| depth(load) == 3)
            .map_or(1, |load| load.as_array().map_or(1, Vec::len)),
        load: list("load", f64::NAN),
        capacity: list("capacity", f64::INFINITY),
        allowed: list("allowed", f64::NAN).map(|flags| flags.iter().map(|&flag| flag != 0.0).collect()),
        floor: floor.map(|floor| if floor.len() == 1 { vec![floor[0]; n] } else { floor }),
        priority: list("priority", f64::NAN).map(|ranks| ranks.iter().map(|&rank| rank as i64).collect()),
        group: list("group", f64::NAN).map(|groups| groups.iter().map(|&group| group as u32).collect()),
        group_floor: list("group_min_quality", f64::NAN),
        group_budget: list("group_budget", f64::NAN),
        ..Case::plain(
            n,
            m,
            list("cost", f64::NAN).expect("costs"),
            list("quality", f64::NAN).expect("qualities"),
            goal,
        )
    }
}

#[test]
fn the_golden_problems_are_solved_to_their_optimum() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
    let files = std::fs::read_dir(folder).expect("golden problems");
    let files =
        files.map(|file| file.expect("readable").path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    let mut count = 0;
    for path in files {
        let stored: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("readable")).expect("JSON");
        let (case, expect) = (read(&stored["problem"]), &stored["expect"]);
        let solution = case.solve(&Options { tolerance: 0.0, ..Options::default() });
        check(&case, &solution);
        let name = path.display();
        assert_eq!(Some(solution.status.name()), expect["status"].as_str(), "{name}: {solution:?}");
        let deferred: Vec<u64> = (0..case.n as u64).filter(|&i| solution.model[i as usize] < 0).collect();
        let wanted = expect["deferred"].as_array().expect("a list").iter().filter_map(Value::as_u64);
        assert_eq!(deferred, wanted.collect::<Vec<_>>(), "{name}");
        let objective = expect["objective"].as_f64().expect("a number");
        assert!((solution.objective - objective).abs() <= 1e-8 * objective.abs(), "{name}: {solution:?}");
        let relaxation = expect["relaxation"].as_f64().expect("a number");
        assert!((solution.dual_bound - relaxation).abs() <= 1e-6 * relaxation.abs() + 1e-12, "{name}: {solution:?}");
        count += 1;
    }
    assert!(count >= 20, "{count}");
}
