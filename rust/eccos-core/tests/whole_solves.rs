//! Whole solves over every mixture of limits and scales against all assignments there are: no wrong status, no false bound, no
//! broken limit, no false proof.

mod common;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use common::mixed::{LOOSE, Mixed};
use eccos_core::{Criterion, Options, Solution, Status};

/// Names what is wrong with an answer; nothing when all is well.
fn wrong(mixed: &Mixed, found: &Solution, exact: bool) -> Result<&'static str, String> {
    let served = found.model.iter().filter(|j| **j >= 0).count();
    let Some(sums) = mixed.sums(&found.model) else { return Err("a forbidden pair".into()) };
    if sums.over_capacity > 1e-13 {
        return Err(format!("a capacity is broken by {}", sums.over_capacity));
    }
    let met = matches!(found.status, Status::Optimal | Status::Feasible);
    if met && (served < mixed.case.n || sums.over_other > LOOSE) {
        return Err(format!("{served} served, a limit is broken by {}", sums.over_other));
    }
    let truth = mixed.truth();
    match found.status {
        Status::Overloaded if truth.fits => return Err("falsely overloaded".into()),
        Status::QualityUnreachable | Status::BudgetUnreachable | Status::RowUnreachable if truth.best.is_some() => {
            return Err("falsely unreachable".into());
        }
        _ => {}
    }
    if served > 0 && met {
        let value = Mixed::value(found.criterion, &sums, served);
        let size = match found.criterion {
            Criterion::Value(value) => sums.cost + value * sums.quality,
            Criterion::Quality => 1.0,
            Criterion::Cost => sums.cost,
        };
        if (value - found.objective).abs() > 1e-9 * size {
            return Err(format!("the objective is {value}"));
        }
        if let Some(best) = truth.best.filter(|_| found.criterion == mixed.case.criterion()) {
            let sign = if found.criterion == Criterion::Quality { -1.0 } else { 1.0 };
            let size = size.max(best.abs());
            if sign * (found.bound - best) > 3e-9 * size || sign * (found.dual_bound - best) > 3e-9 * size {
                return Err(format!("the bound is false: {} {} best {best}", found.bound, found.dual_bound));
            }
            if found.stats.proven && sign * (value - best) > 3e-9 * size {
                return Err(format!("falsely proven: {value} best {best}"));
            }
            if exact && found.status == Status::Optimal && sign * (value - best) > 3e-9 * size {
                return Err(format!("falsely optimal: {value} best {best}"));
            }
        }
    }
    Ok(match (truth.best, met) {
        (Some(_), true) => "met",
        (Some(_), false) => "missed",
        (None, true) => "met within rounding",
        (None, false) if truth.loose.is_some() => "not met, within rounding",
        (None, false) => "none",
    })
}

/// Found wrong once: a row of either sign dropped before those that make up for it were placed (1412, 3002, 3509, 6962), a bound
/// above the best by the rounding of its sums (8115), a panic where nobody can be served (14983, 16439, 28845), a capacity of -0 among equal columns (the others).
const KNOWN: [u64; 11] = [1412, 3002, 3509, 6962, 8115, 14983, 16439, 28845, 1_007_994, 1_015_536, 2_008_590];

#[test]
fn every_mixture_of_limits_against_all_assignments() {
    let rounds: u64 = if cfg!(debug_assertions) { 3_000 } else { 30_000 };
    let first = std::env::var("ECCOS_FUZZ_FROM").ok().and_then(|from| from.parse().ok()).unwrap_or(0);
    let (mut counts, mut faults) = (BTreeMap::new(), vec![]);
    for seed in KNOWN.into_iter().chain(first..first + rounds) {
        let mixed = Mixed::draw(seed);
        for exact in [false, true] {
            let options = Options { tolerance: if exact { 0.0 } else { 1e-4 }, ..Options::default() };
            let solved = std::panic::catch_unwind(AssertUnwindSafe(|| mixed.solve(&options)));
            let Ok(found) = solved else {
                faults.push(format!("{seed} exact {exact}: a panic"));
                continue;
            };
            match wrong(&mixed, &found, exact) {
                Ok(what) => {
                    *counts.entry((what, exact)).or_insert(0usize) += 1;
                    if what == "missed" {
                        faults.push(format!(
                            "{seed} exact {exact}: missed, {:?} charges {}",
                            found.status,
                            mixed.charges.len()
                        ));
                    }
                }
                Err(what) => faults.push(format!("{seed} exact {exact}: {what} ({:?})", found.status)),
            }
        }
    }
    assert!(faults.is_empty(), "{} faults, {counts:?}\n{}", faults.len(), faults[..faults.len().min(60)].join("\n"));
    assert!(counts.len() >= 4, "{counts:?}");
}
