//! What a binding relies on: names, bytes, time limits, interrupts and panics.

use std::cell::Cell;
use std::thread::sleep;
use std::time::Duration;

use eccos_core::{Criterion, Duals, Goal, Interrupt, booleans, caught, time_limit};

#[test]
fn goals_have_the_names_of_the_arguments() {
    assert_eq!(Goal::named("min_quality", 0.7), Ok(Goal::Quality { min: 0.7 }));
    assert_eq!(Goal::named("budget", 2.0), Ok(Goal::Budget { max: 2.0 }));
    assert_eq!(Goal::named("quality_value", 3.0), Ok(Goal::Price { value: 3.0 }));
    let refused = Goal::named("cheap", 1.0).unwrap_err().to_string();
    assert_eq!(refused, "goal is \"cheap\", wanted min_quality, budget or quality_value");
}

#[test]
fn a_criterion_comes_back_by_its_name() {
    for criterion in [Criterion::Cost, Criterion::Quality, Criterion::Value(2.5)] {
        assert_eq!(Criterion::named(criterion.name(), 2.5), criterion);
    }
}

#[test]
fn multipliers_come_back_from_their_parts() {
    let prices: [Vec<f64>; 6] = [1, 2, 3, 4, 5, 6].map(|length| vec![f64::from(length); length as usize]);
    let duals = Duals::from_parts(Criterion::Quality, 0.5, prices.clone());
    assert_eq!((duals.capacity.len(), duals.priced.len()), (1, 6));
    assert_eq!(duals.into_parts(), (0.5, prices));
}

#[test]
fn only_zero_and_one_are_booleans() {
    assert_eq!(booleans("allowed", &[0, 1, 1]), Ok(&[false, true, true][..]));
    assert_eq!(booleans("allowed", &[]), Ok(&[][..]));
    let refused = booleans("allowed", &[0, 2]).unwrap_err().to_string();
    assert_eq!(refused, "allowed holds a byte other than 0 and 1, wanted booleans");
}

#[test]
fn a_time_limit_is_a_time() {
    assert_eq!(time_limit(0.25), Ok(Duration::from_millis(250)));
    for (seconds, got) in [(-1.0, "-1"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let refused = time_limit(seconds).unwrap_err().to_string();
        assert_eq!(refused, format!("time_limit is {got}, wanted seconds >= 0"));
    }
}

#[test]
fn a_panic_is_quoted() {
    assert_eq!(caught(|| 3), Ok(3));
    let refused = caught(|| -> () { panic!("row {}", 7) }).unwrap_err();
    assert_eq!(refused, "a defect of eccos-rs, please report it with what was passed in: row 7");
    let refused = caught(|| -> () { std::panic::panic_any(7) }).unwrap_err();
    assert!(refused.ends_with("no message"), "{refused}");
}

#[test]
fn an_interrupt_is_asked_for_now_and_then_and_kept() {
    let asked = Cell::new(0);
    let interrupt = Interrupt::new(|| {
        asked.set(asked.get() + 1);
        if asked.get() < 2 { Ok(()) } else { Err("Ctrl-C") }
    });
    assert!(!interrupt.poll());
    assert_eq!(asked.get(), 0, "asked before the pause was over");
    for (pause, stopped) in [(25, false), (25, true), (25, true)] {
        sleep(Duration::from_millis(pause));
        assert_eq!(interrupt.poll(), stopped);
    }
    assert_eq!(asked.get(), 2, "asked again after the interrupt");
    assert_eq!(interrupt.into_result(), Err("Ctrl-C"));
    assert_eq!(Interrupt::new(|| Ok::<(), ()>(())).into_result(), Ok(()));
}
