//! From what was found to what the caller reads: prices, bound and gap in the caller's units, and the status.

mod candidate;
mod deal;
mod explain;
mod measure;
mod solution;

use crate::duals::Duals;
pub(crate) use candidate::{Candidate, Deferred, Verdict};
pub(crate) use deal::deal;
pub use explain::{Explanation, Named, Reason, Repair, RepairParts};
pub(crate) use measure::Measured;
pub use solution::{Counterfactuals, Solution, Stats, Status};

use crate::control::Control;
use crate::options::Options;
use crate::problem::{Criterion, Goal, Label, Problem};
use crate::program::Prepared;

/// The models of the served places, spread over all queries.
pub(crate) fn spread(prepared: &Prepared<'_>, key: &[u8]) -> Vec<i32> {
    if prepared.served.is_none() {
        return key.iter().map(|&j| i32::from(j)).collect();
    }
    let mut model = vec![-1; prepared.problem.queries()];
    for (place, &j) in key.iter().enumerate() {
        model[prepared.query(place)] = i32::from(j);
    }
    model
}

/// Value of a criterion in its own unit.
pub(crate) fn objective(criterion: Criterion, measured: &Measured) -> f64 {
    match criterion {
        Criterion::Cost => measured.cost,
        Criterion::Quality => measured.mean_quality(),
        Criterion::Value(value) => measured.cost - value * measured.quality,
    }
}

/// A bound of the scaled program in the unit of the criterion; never worse than what holds without any multipliers.
pub(crate) fn unscaled_bound(prepared: &Prepared<'_>, scaled: f64) -> f64 {
    let value = scaled / prepared.scale_p;
    match prepared.criterion {
        Criterion::Cost => value.max(0.0),
        Criterion::Quality => (-value / prepared.len() as f64).min(1.0),
        Criterion::Value(worth) => value.max(-worth * prepared.len() as f64),
    }
}

/// Multipliers in units of the objective for one unit of the row.
pub(crate) fn unscaled_duals(prepared: &Prepared<'_>, y: &[f64]) -> Duals {
    let mut duals = Duals::zero(prepared.problem, prepared.criterion);
    for (&(label, scale), &y) in prepared.labels.iter().zip(y) {
        duals.set(label, y * scale / prepared.scale_p);
    }
    if let Criterion::Value(value) = prepared.criterion {
        duals.requirement = value;
    }
    duals
}

/// The caller's multipliers as a starting point; `None` when they do not fit the problem.
pub(crate) fn scaled_duals(prepared: &Prepared<'_>, duals: &Duals) -> Option<Vec<f64>> {
    let fits = duals.fits(prepared.problem);
    // Prices of another criterion have another unit, and the price of quality is given in price mode.
    if !fits || std::mem::discriminant(&duals.criterion) != std::mem::discriminant(&prepared.criterion) {
        return None;
    }
    // A requirement that is not there has no scale.
    let scaled = |&(label, scale): &(Label, f64)| {
        if scale > 0.0 { duals.of(label) * prepared.scale_p / scale } else { 0.0 }
    };
    let y: Vec<f64> =
        prepared.labels.iter().zip(&prepared.ceiling).map(|(label, most)| scaled(label).min(*most)).collect();
    y.iter().all(|y| y.is_finite() && *y >= 0.0).then_some(y)
}

/// What rounding of the objective is relative to: cost minus value may cancel, its parts do not.
pub(crate) fn size(criterion: Criterion, measured: &Measured) -> f64 {
    match criterion {
        Criterion::Value(value) => measured.cost + value * measured.quality,
        Criterion::Cost | Criterion::Quality => objective(criterion, measured),
    }
}

/// `|objective - bound| / |bound|`, 0 when they are equal but for rounding, infinite when only the bound is 0.
fn gap(criterion: Criterion, objective: f64, bound: f64, measured: &Measured) -> f64 {
    let size = size(criterion, measured);
    let distance = match criterion {
        Criterion::Quality => bound - objective,
        Criterion::Cost | Criterion::Value(_) => objective - bound,
    };
    if distance <= 1e-14 * size {
        0.0
    } else if bound == 0.0 {
        f64::INFINITY
    } else {
        distance / bound.abs()
    }
}

/// The solution of a problem from the best candidate.
pub(crate) fn finish(
    problem: &Problem<'_>,
    options: &Options<'_>,
    candidate: Candidate,
    deferred: Deferred,
    stats: Stats,
    control: &Control<'_>,
) -> Solution {
    let measured = candidate.measured.clone();
    if measured.assigned == 0 {
        return nothing(problem, &candidate, deferred, stats, control);
    }
    let value = objective(candidate.criterion, &measured);
    let gap = gap(candidate.criterion, value, candidate.bound, &measured);
    let violation = match problem.goal() {
        Goal::Quality { min } => measured.quality_short(min),
        Goal::Budget { max } => measured.over_budget(max),
        Goal::Price { .. } => 0.0,
    };
    let groups_short = (0..problem.groups).any(|g| measured.group_misses(problem, g).0 > 0.0);
    let missed_row = (0..measured.row.len()).any(|row| measured.row_miss(problem, row) > 0.0);
    let missed_quality = groups_short || matches!(problem.goal(), Goal::Quality { .. }) && violation > 0.0;
    let status = match (deferred, candidate.verdict) {
        (Deferred::Proven, _) => Status::Overloaded,
        (Deferred::Undecided, _) | (_, Verdict::Undecided) => Status::Undecided,
        (_, Verdict::Met) if gap <= options.tolerance => Status::Optimal,
        (_, Verdict::Met) => Status::Feasible,
        _ if missed_quality => Status::QualityUnreachable,
        _ if missed_row && violation == 0.0 => Status::RowUnreachable,
        _ => Status::BudgetUnreachable,
    };
    let prices = prices(problem, candidate.criterion, &candidate.duals, &measured);
    let explanation = (deferred != Deferred::No || candidate.verdict != Verdict::Met)
        .then(|| explain::explain(problem, &candidate, control, deferred, stats.elapsed.as_secs_f64()));
    Solution {
        status,
        cost: measured.cost,
        quality: measured.mean_quality(),
        objective: value,
        bound: candidate.bound,
        dual_bound: candidate.dual_bound,
        gap,
        quality_price: prices.quality,
        capacity_price: prices.capacity,
        pool_price: prices.pool,
        row_price: prices.row,
        charge: measured.charge.clone(),
        violation,
        explanation,
        stats: Stats { proven: candidate.proven, ..stats },
        model: candidate.model,
        duals: candidate.duals,
        criterion: candidate.criterion,
    }
}

/// Dollars for one more unit of mean quality, of each capacity, of each pool, and of each side row's limit.
struct Prices {
    quality: f64,
    capacity: Vec<f64>,
    pool: Vec<f64>,
    row: Vec<f64>,
}

fn prices(problem: &Problem<'_>, criterion: Criterion, duals: &Duals, measured: &Measured) -> Prices {
    let queries = measured.assigned;
    let rows = problem.input.rows.iter().zip(&duals.row).zip(&measured.row);
    let rows: Vec<f64> = rows.map(|((row, y), of)| if row.mean { y * of.0 } else { *y }).collect();
    // In budget mode: summed quality for a dollar, turned over.
    let turned = |&quality: &f64| if quality == 0.0 { 0.0 } else { quality / duals.requirement };
    let dollars = |prices: &[f64]| match criterion {
        Criterion::Cost | Criterion::Value(_) => prices.to_vec(),
        Criterion::Quality => prices.iter().map(turned).collect(),
    };
    let quality = match criterion {
        Criterion::Cost | Criterion::Value(_) => duals.requirement * queries as f64,
        Criterion::Quality => queries as f64 / duals.requirement,
    };
    Prices { quality, capacity: dollars(&duals.capacity), pool: dollars(&duals.pool), row: dollars(&rows) }
}

/// An empty batch, or one of which nothing fits.
fn nothing(
    problem: &Problem<'_>,
    candidate: &Candidate,
    deferred: Deferred,
    stats: Stats,
    control: &Control<'_>,
) -> Solution {
    let model = vec![-1; problem.queries()];
    // A commitment is paid all the same.
    let Measured { cost, charge, .. } = Measured::new(problem, &model);
    let duals = Duals::zero(problem, candidate.criterion);
    Solution {
        status: match deferred {
            Deferred::No => Status::Optimal,
            Deferred::Proven => Status::Overloaded,
            Deferred::Undecided => Status::Undecided,
        },
        model,
        cost,
        quality: f64::NAN,
        objective: 0.0,
        bound: 0.0,
        dual_bound: 0.0,
        gap: 0.0,
        quality_price: 0.0,
        capacity_price: duals.capacity.clone(),
        pool_price: duals.pool.clone(),
        row_price: duals.row.clone(),
        charge,
        duals,
        criterion: candidate.criterion,
        violation: 0.0,
        explanation: (deferred != Deferred::No)
            .then(|| explain::explain(problem, candidate, control, deferred, stats.elapsed.as_secs_f64())),
        stats,
    }
}
