//! Why a problem cannot be met as asked, the best that can be had, and the cheapest way to repair it.

use super::candidate::{Candidate, Deferred, Verdict};
use super::measure::Measured;
use crate::control::Control;
use crate::dual::Element;
use crate::dual::State;
use crate::dual::{Limits, Outcome, Work};
use crate::problem::{Criterion, Goal, Label, Problem};
use crate::program::{FORBIDDEN, Prepared};
use crate::program::{Lp, hash};

/// Pairs of the program that looks for the cheapest growth of the capacities.
const LOOKED_AT: usize = 200_000;

/// What stands in the way.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// The capacities hold fewer queries than there are.
    CapacityShort {
        /// Queries to serve.
        demand: usize,
        /// Queries that fit.
        served: usize,
    },
    /// The promised mean quality is above the mean of each query's best allowed model.
    QualityAboveBest {
        /// The promised mean quality.
        wanted: f64,
        /// The mean of each query's best allowed model, whatever the capacities.
        best: f64,
    },
    /// The promised mean quality is above what the capacities allow.
    QualityAboveCapacities {
        /// The promised mean quality.
        wanted: f64,
        /// No assignment within the capacities has a higher mean quality than this.
        attainable: f64,
    },
    /// The budget is below the sum of each query's cheapest allowed model.
    BudgetBelowCheapest {
        /// The budget in US dollars.
        wanted: f64,
        /// The sum of each query's cheapest allowed model, whatever the capacities.
        cheapest: f64,
    },
    /// The budget is below what the capacities allow.
    BudgetBelowCapacities {
        /// The budget in US dollars.
        wanted: f64,
        /// No assignment within the capacities costs less than this.
        attainable: f64,
    },
    /// A group's own quality floor cannot be met within the other limits.
    GroupQuality {
        /// The group.
        group: usize,
        /// Its promised mean quality.
        wanted: f64,
        /// What the returned assignment gives it.
        got: f64,
    },
    /// A group's own budget cannot be met within the other limits.
    GroupBudget {
        /// The group.
        group: usize,
        /// Its budget in US dollars.
        wanted: f64,
        /// What the returned assignment costs it.
        got: f64,
    },
    /// A side row cannot be kept within the other limits.
    Row {
        /// The row.
        row: usize,
        /// True when it asks for at least the limit.
        at_least: bool,
        /// Its limit.
        wanted: f64,
        /// What the returned assignment has.
        got: f64,
    },
    /// The linear relaxation has a solution, and a complete search proved that no whole assignment has.
    NoWholeAssignment,
    /// No assignment that keeps every limit was found, and it is not proven that there is none.
    NotFound {
        /// How long it was looked for.
        seconds: f64,
    },
    /// No way to fit all queries was found, and it is not proven that there is none.
    NotPlaced {
        /// Queries to serve.
        demand: usize,
        /// Queries that were placed.
        served: usize,
    },
}

impl Reason {
    /// Its name, and its numbers by name: what a binding passes on.
    #[must_use]
    pub fn parts(&self) -> Named {
        match *self {
            Self::CapacityShort { demand, served } => {
                ("capacity_short", vec![("demand", demand as f64), ("served", served as f64)])
            }
            Self::QualityAboveBest { wanted, best } => {
                ("quality_above_best", vec![("wanted", wanted), ("best", best)])
            }
            Self::QualityAboveCapacities { wanted, attainable } => {
                ("quality_above_capacities", vec![("wanted", wanted), ("attainable", attainable)])
            }
            Self::BudgetBelowCheapest { wanted, cheapest } => {
                ("budget_below_cheapest", vec![("wanted", wanted), ("cheapest", cheapest)])
            }
            Self::BudgetBelowCapacities { wanted, attainable } => {
                ("budget_below_capacities", vec![("wanted", wanted), ("attainable", attainable)])
            }
            Self::GroupQuality { group, wanted, got } => {
                ("group_quality", vec![("group", group as f64), ("wanted", wanted), ("got", got)])
            }
            Self::GroupBudget { group, wanted, got } => {
                ("group_budget", vec![("group", group as f64), ("wanted", wanted), ("got", got)])
            }
            Self::Row { row, at_least, wanted, got } => {
                let name = if at_least { "row_below" } else { "row_above" };
                (name, vec![("row", row as f64), ("wanted", wanted), ("got", got)])
            }
            Self::NoWholeAssignment => ("no_whole_assignment", vec![]),
            Self::NotFound { seconds } => ("not_found", vec![("seconds", seconds)]),
            Self::NotPlaced { demand, served } => {
                ("not_placed", vec![("demand", demand as f64), ("served", served as f64)])
            }
        }
    }
}

/// The least change of the limits that makes the problem solvable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Repair {
    /// Lower the promised mean quality to this (quality mode).
    pub min_quality: Option<f64>,
    /// Raise the budget to this, in US dollars (budget mode).
    pub budget: Option<f64>,
    /// Or raise these capacities: resource, model, and by how much.
    pub capacity: Vec<(usize, usize, f64)>,
    /// And these pools: which, and by how much.
    pub pool: Vec<(usize, f64)>,
    /// And move the limits of these side rows to this.
    pub row: Vec<(usize, f64)>,
}

/// A repair's fields in their order.
pub type RepairParts = (Option<f64>, Option<f64>, Vec<(usize, usize, f64)>, Vec<(usize, f64)>, Vec<(usize, f64)>);

impl Repair {
    /// Its fields: what a binding passes on.
    #[must_use]
    pub fn into_parts(self) -> RepairParts {
        (self.min_quality, self.budget, self.capacity, self.pool, self.row)
    }
}

/// Why the problem could not be met as asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Everything that stands in the way, the widest reason first.
    pub reasons: Vec<Reason>,
    /// The cheapest repair known.
    pub repair: Repair,
}

/// A reason's name and its numbers by name.
pub type Named = (&'static str, Vec<(&'static str, f64)>);

impl Explanation {
    /// Every reason as `Reason::parts`: what a binding passes on.
    #[must_use]
    pub fn named(&self) -> Vec<Named> {
        self.reasons.iter().map(Reason::parts).collect()
    }
}

/// Everything that stands in the way of the stated problem, and the least that would have to give.
pub(crate) fn explain(
    problem: &Problem<'_>,
    candidate: &Candidate,
    control: &Control<'_>,
    deferred: Deferred,
    seconds: f64,
) -> Explanation {
    let measured = &candidate.measured;
    let mut reasons = vec![];
    let mut repair = Repair::default();
    let (demand, served) = (problem.routable.as_ref().map_or(problem.queries(), Vec::len), measured.assigned);
    match deferred {
        Deferred::No => {}
        Deferred::Proven => reasons.push(Reason::CapacityShort { demand, served }),
        Deferred::Undecided => reasons.push(Reason::NotPlaced { demand, served }),
    }
    match candidate.verdict {
        Verdict::Met | Verdict::Unreachable => {}
        Verdict::NoWhole => reasons.push(Reason::NoWholeAssignment),
        Verdict::Undecided => reasons.push(Reason::NotFound { seconds }),
    }
    if candidate.verdict != Verdict::Met && measured.assigned > 0 {
        requirement(problem, candidate, measured, (&mut reasons, &mut repair));
        for group in 0..problem.groups {
            groups(problem, measured, group, &mut reasons);
        }
        for (at, row) in problem.input.rows.iter().enumerate().filter(|(at, _)| measured.row_miss(problem, *at) > 0.0)
        {
            let (members, sum, _) = measured.row[at];
            let got = row.stated(sum, members);
            reasons.push(Reason::Row { row: at, at_least: row.at_least, wanted: row.limit, got });
            repair.row.push((at, got));
        }
    }
    let whole = matches!(candidate.verdict, Verdict::NoWhole | Verdict::Undecided) && deferred == Deferred::No;
    if problem.has_capacities() && !whole && !control.expired() {
        for (label, more) in growth(problem, &reasons, control) {
            let m = problem.models();
            match label {
                Label::Capacity(at) => repair.capacity.push((at / m, at % m, more)),
                Label::Pool(pool) => repair.pool.push((pool, more)),
                _ => {}
            }
        }
    }
    Explanation { reasons, repair }
}

/// The least growth of the capacities with which the relaxation serves every query and meets the requirement (left aside
/// when no capacity could help): the program whose capacities can be bought at one price each,
///
/// ```text
/// min sum_k s_k   s.t.   A x <= b + s       whose dual is   max g(y), y_k <= 1, p = 0
/// ```
///
/// What is returned is enough for whole queries too: it is what a rounding of that program uses, the split queries at
/// their best for the requirement. Large batches are estimated from a sample.
fn growth(problem: &Problem<'_>, reasons: &[Reason], control: &Control<'_>) -> Vec<(Label, f64)> {
    let hopeless =
        |reason: &Reason| matches!(reason, Reason::QualityAboveBest { .. } | Reason::BudgetBelowCheapest { .. });
    let served = problem.routable.as_deref();
    let (criterion, requirement) = match problem.goal() {
        Goal::Quality { min } => (Criterion::Cost, Some(min)),
        Goal::Budget { max } => (Criterion::Quality, Some(max)),
        Goal::Price { .. } => (Criterion::Cost, None),
    };
    let requirement = requirement.filter(|_| !reasons.iter().any(hopeless));
    let prepared = Prepared::new(problem, served, criterion, requirement).capacities_only();
    let n = prepared.len();
    let count = n.min(LOOKED_AT.div_ceil(problem.models()).max(1024));
    let share = count as f64 / n.max(1) as f64;
    let requests = problem.input.load.is_none();
    // Part of a request is no room: with whole capacities the vertices are whole as well.
    let whole = |(&b, &(_, scale)): (&f64, &(Label, f64))| {
        share * if requests && scale > 0.0 { (b / scale + 1e-9).floor() * scale } else { b }
    };
    let mut limit: Vec<f64> = prepared.limit.iter().zip(&prepared.labels).map(whole).collect();
    limit[0] = prepared.limit[0] * share;
    let mut lp = Lp::build(&prepared, (0..count).map(|t| t * n / count), limit);
    lp.p.iter_mut().filter(|p| **p < FORBIDDEN).enumerate().for_each(|(at, p)| *p = -1e-9 * hash(at as u64, 0));
    lp.ceiling[1..].fill(1.0);
    let mut state = State::new(&lp, &vec![0.0; lp.rows()]);
    if state.climb(&lp, &mut Work::default(), &Limits::new(control)) != Outcome::Optimal {
        return vec![];
    }
    let mut model = state.key.clone();
    for element in &state.basis.elements {
        if let Element::Tie { row, model: other } = *element {
            let (i, key) = (row as usize, usize::from(model[row as usize]));
            if lp.q[usize::from(other) * lp.stride + i] > lp.q[key * lp.stride + i] {
                model[i] = other;
            }
        }
    }
    let mut bought = vec![0.0; lp.rows()];
    for (t, element) in state.basis.elements.iter().enumerate() {
        if let Element::Ceiling(row) = element {
            bought[*row as usize] = -state.fraction(t);
        }
    }
    let mut members = vec![0.0; lp.rows()];
    model.iter().enumerate().for_each(|(i, &j)| lp.each(i, usize::from(j), |k, _| members[k] += 1.0));
    let over = lp.residual(&model);
    let nested = problem.pools_are_nested();
    let more = |row: usize, scale: f64| {
        let unit = share * scale;
        if !requests {
            // Room to arrange whole queries in: half of one of those that go there.
            let typical = (over[row] + lp.limit[row]) / f64::max(members[row], 1.0) / scale;
            if over[row] > 1e-9 * lp.limit[row] { over[row] / unit * (1.0 + 1e-9) + 0.5 * typical } else { 0.0 }
        } else if nested {
            // Requests are whole at a vertex: what the relaxation buys is what is needed.
            (bought[row] / unit - 1e-6).ceil()
        } else {
            (over[row] / unit - 1e-6).ceil()
        }
    };
    let rows = prepared.labels.iter().enumerate().skip(1);
    rows.map(|(row, &(label, scale))| (label, more(row, scale))).filter(|(_, more)| *more > 0.0).collect()
}

/// The requirement against what is possible with and without the capacities.
fn requirement(
    problem: &Problem<'_>,
    candidate: &Candidate,
    measured: &Measured,
    (reasons, repair): (&mut Vec<Reason>, &mut Repair),
) {
    // Read in full only where it is said.
    let extremes = || row_extremes(problem, &candidate.model);
    match problem.goal() {
        Goal::Quality { min } if measured.quality_short(min) > 0.0 => {
            let attainable = measured.mean_quality();
            repair.min_quality = Some(attainable);
            if candidate.verdict == Verdict::Unreachable {
                let best = extremes().0 / measured.assigned as f64;
                reasons.push(if min - best > 1e-9 {
                    Reason::QualityAboveBest { wanted: min, best }
                } else {
                    Reason::QualityAboveCapacities { wanted: min, attainable }
                });
            }
        }
        Goal::Budget { max } if measured.over_budget(max) > 0.0 => {
            repair.budget = Some(measured.cost);
            if candidate.verdict == Verdict::Unreachable {
                let cheapest = extremes().1;
                reasons.push(if cheapest - max > 1e-9 * max {
                    Reason::BudgetBelowCheapest { wanted: max, cheapest }
                } else {
                    Reason::BudgetBelowCapacities { wanted: max, attainable: measured.cost }
                });
            }
        }
        _ => {}
    }
}

/// Sum over the assigned queries of the best quality and of the least cost among their models.
fn row_extremes(problem: &Problem<'_>, model: &[i32]) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for (i, _) in model.iter().enumerate().filter(|(_, j)| **j >= 0) {
        let may = || (0..problem.models()).filter(|&j| problem.may(i, j));
        sums.0 += may().map(|j| problem.quality(i, j)).fold(f64::NEG_INFINITY, f64::max);
        sums.1 += may().map(|j| problem.cost(i, j)).fold(f64::INFINITY, f64::min);
    }
    sums
}

fn groups(problem: &Problem<'_>, measured: &Measured, group: usize, reasons: &mut Vec<Reason>) {
    let (short, over) = measured.group_misses(problem, group);
    let (size, quality, cost) = measured.group[group];
    if let Some(wanted) = problem.group_floor(group).filter(|_| short > 0.0) {
        reasons.push(Reason::GroupQuality { group, wanted, got: quality / size });
    }
    if let Some(wanted) = problem.group_budget(group).filter(|_| over > 0.0) {
        reasons.push(Reason::GroupBudget { group, wanted, got: cost });
    }
}
