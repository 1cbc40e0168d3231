//! Input validation: every shape and every value is looked at once, and refused with a sentence.

use std::borrow::Cow;

use crate::problem::{Goal, Inputs, MAX_MODELS, Matrix, ProblemError, Unroutable};
use crate::simd;

/// Queries are numbered with 32 bits, and a mask of them must fit in memory many times over.
pub(crate) const MAX_QUERIES: usize = i32::MAX as usize;

/// The multipliers of all limits that can bind, times themselves, are held in memory.
pub(crate) const MAX_LIMITS: usize = 4096;

fn length(argument: &'static str, got: usize, wanted: usize, shape: &str) -> Result<(), ProblemError> {
    if got == wanted { Ok(()) } else { Err(ProblemError::Shape { argument, got, wanted, shape: shape.to_owned() }) }
}

fn value(argument: &'static str, place: String, got: f64, wanted: &'static str) -> ProblemError {
    ProblemError::Value { argument, place, got: got.to_string(), wanted }
}

/// Lengths, and arguments that need one another.
pub(crate) fn shapes(input: &Inputs<'_>) -> Result<(), ProblemError> {
    let (n, m, r) = (input.queries, input.models, input.resources);
    if m == 0 || m > MAX_MODELS {
        return Err(ProblemError::Models { got: m });
    }
    if n > MAX_QUERIES {
        return Err(ProblemError::Queries { got: n });
    }
    length("cost", input.cost.len(), n * m, "queries x models")?;
    length("quality", input.quality.len(), n * m, "queries x models")?;
    if let Some(load) = input.load {
        if r == 0 {
            return Err(value("load", String::new(), 0.0, "at least one resource"));
        }
        length("load", load.len(), r * n * m, "resources x queries x models")?;
    } else if r != 1 {
        return Err(ProblemError::Missing { argument: "more than one resource", needs: "load" });
    }
    if let Some(capacity) = input.capacity {
        length("capacity", capacity.len(), r * m, "resources x models")?;
    }
    for (at, pool) in input.pools.iter().enumerate() {
        length("pools", pool.models.len(), m, "a mask of the models for each")?;
        if pool.resource >= r {
            let place = format!("[{at}].resource");
            return Err(value("pools", place, pool.resource as f64, "a resource of load, counted from 0"));
        }
    }
    for (at, priced) in input.priced.iter().enumerate() {
        length("priced", priced.models.len(), m, "a mask of the models for each")?;
        if priced.resource >= r {
            let place = format!("[{at}].resource");
            return Err(value("priced", place, priced.resource as f64, "a resource of load, counted from 0"));
        }
    }
    for row in input.rows {
        length("rows", row.values.len(), n * m, "queries x models for each")?;
        length("rows", row.members.map_or(n, <[bool]>::len), n, "a mask of the queries for each")?;
    }
    if let Some(allowed) = input.allowed {
        length("allowed", allowed.len(), n * m, "queries x models")?;
    }
    if let Some(floor) = input.query_floor {
        length("query_floor", floor.len(), n, "one per query")?;
    }
    if let Some(priority) = input.priority {
        length("priority", priority.len(), n, "one per query")?;
    }
    group_shapes(input)
}

fn group_shapes(input: &Inputs<'_>) -> Result<(), ProblemError> {
    let limits = [("group_min_quality", input.group_min_quality), ("group_budget", input.group_budget)];
    let Some(group) = input.group else {
        for (argument, limit) in limits {
            if limit.is_some() {
                return Err(ProblemError::Missing { argument, needs: "group" });
            }
        }
        return Ok(());
    };
    length("group", group.len(), input.queries, "one per query")?;
    if let (Some(floors), Some(budgets)) = (input.group_min_quality, input.group_budget) {
        length("group_budget", budgets.len(), floors.len(), "one per group, as group_min_quality")?;
    }
    let Some(groups) = input.group_min_quality.or(input.group_budget).map(<[f64]>::len) else {
        return Err(ProblemError::Missing { argument: "group", needs: "group_min_quality or group_budget" });
    };
    match group.iter().position(|&g| g as usize >= groups) {
        Some(i) => Err(ProblemError::Value {
            argument: "group",
            place: format!("[{i}]"),
            got: group[i].to_string(),
            wanted: "a group below the number of group limits",
        }),
        None => Ok(()),
    }
}

/// The goal and everything that is one number per model, query or group.
pub(crate) fn scalars(input: &Inputs<'_>) -> Result<(), ProblemError> {
    let scalar = |argument, x: f64, ok: bool, wanted| {
        if ok { Ok(()) } else { Err(value(argument, String::new(), x, wanted)) }
    };
    match input.goal {
        Goal::Quality { min } => scalar("min_quality", min, (0.0..=1.0).contains(&min), "a number in [0, 1]")?,
        Goal::Budget { max } => scalar("budget", max, max >= 0.0, "a number >= 0")?,
        Goal::Price { value } => {
            scalar("quality_value", value, value >= 0.0 && value.is_finite(), "a finite number >= 0")?;
        }
    }
    let each = |argument, values: Option<&[f64]>, ok: fn(f64) -> bool, wanted| {
        let bad = values.and_then(|values| values.iter().position(|&x| !ok(x)).map(|i| (i, values[i])));
        bad.map_or(Ok(()), |(i, x)| Err(value(argument, format!("[{i}]"), x, wanted)))
    };
    let share = |x: f64| x.is_nan() || (0.0..=1.0).contains(&x);
    if let Some(capacity) = input.capacity
        && let Some(i) = capacity.iter().position(|x| x.is_nan() || *x < 0.0)
    {
        let place = format!("[{}, {}]", i / input.models, i % input.models);
        return Err(value("capacity", place, capacity[i], "a number >= 0, infinity for none"));
    }
    if let Some(at) = input.pools.iter().position(|pool| pool.capacity.is_nan() || pool.capacity < 0.0) {
        let place = format!("[{at}].capacity");
        return Err(value("pools", place, input.pools[at].capacity, "a number >= 0, infinity for none"));
    }
    if let Some(at) = input.pools.iter().position(|pool| !pool.models.contains(&true)) {
        return Err(value("pools", format!("[{at}].models"), 0.0, "at least one model"));
    }
    if let Some(at) = input.rows.iter().position(|row| !row.limit.is_finite()) {
        let (row, side) = (&input.rows[at], if input.rows[at].at_least { "at_least" } else { "at_most" });
        return Err(value("rows", format!("[{at}].{side}"), row.limit, "a finite number"));
    }
    for (at, priced) in input.priced.iter().enumerate() {
        for (name, number) in [("level", priced.level), ("price", priced.price)] {
            if !(0.0..=f64::from(f32::MAX)).contains(&number) {
                return Err(value("priced", format!("[{at}].{name}"), number, "a finite number >= 0"));
            }
        }
    }
    if let (Goal::Budget { .. }, false) = (input.goal, input.priced.is_empty()) {
        return Err(ProblemError::Missing { argument: "priced", needs: "min_quality or quality_value" });
    }
    let finite = |values: Option<&[f64]>| values.map_or(0, |values| values.iter().filter(|x| x.is_finite()).count());
    let limits = finite(input.capacity) + finite(input.group_min_quality) + finite(input.group_budget);
    let limits = limits + input.pools.iter().filter(|pool| pool.capacity.is_finite()).count();
    let limits = limits + input.rows.len() + input.priced.len();
    if limits > MAX_LIMITS {
        return Err(ProblemError::Limits { got: limits });
    }
    each("query_floor", input.query_floor, share, "a number in [0, 1], NaN for none")?;
    each("group_min_quality", input.group_min_quality, share, "a number in [0, 1], NaN for none")?;
    each("group_budget", input.group_budget, |x| x.is_nan() || x >= 0.0, "a number >= 0, NaN for none")
}

/// Cost, quality and load of every pair that may be chosen.
pub(crate) fn pairs(input: &Inputs<'_>) -> Result<(), ProblemError> {
    let m = input.models;
    let place = |i: usize| format!("[{}, {}]", i / m, i % m);
    let allowed = input.allowed;
    if let Some((i, x)) = first_outside(input.cost, allowed, f64::from(f32::MAX)) {
        return Err(value("cost", place(i), x, "a finite number >= 0 (at most 3.4e38)"));
    }
    if let Some((i, x)) = first_outside(input.quality, allowed, 1.0) {
        return Err(value("quality", place(i), x, "a probability in [0, 1]"));
    }
    for (r, row) in input.rows.iter().enumerate() {
        let may = |at: usize| row.counts(at / m) && allowed.is_none_or(|allowed| allowed[at]);
        let tame = |at: &usize| row.values.at(*at).abs() <= f64::from(f32::MAX);
        if let Some(at) = (0..input.queries * m).find(|at| !tame(at) && may(*at)) {
            let place = format!("[{r}].values[{}, {}]", at / m, at % m);
            return Err(value("rows", place, row.values.at(at), "a finite number (within 3.4e38)"));
        }
    }
    let Some(load) = input.load else {
        return Ok(());
    };
    let size = input.queries * m;
    for r in 0..input.resources {
        if let Some((i, x)) = first_outside(load.part(r * size..(r + 1) * size), allowed, f64::from(f32::MAX)) {
            let place = format!("[{r}, {}, {}]", i / m, i % m);
            return Err(value("load", place, x, "a finite number >= 0 (at most 3.4e38)"));
        }
    }
    Ok(())
}

/// Entries looked at together.
const BLOCK: usize = 8192;

/// The first allowed entry that is not in `[0, high]`.
fn first_outside(values: Matrix<'_>, allowed: Option<&[bool]>, high: f64) -> Option<(usize, f64)> {
    let place = match values {
        Matrix::F32(values) => {
            let limit = (high as f32).to_bits();
            stray(values, allowed, high, |block| simd::highest_f32(block) <= limit)
        }
        Matrix::F64(values) => stray(values, allowed, high, |block| simd::highest_f64(block) <= high.to_bits()),
    };
    place.map(|i| (i, values.at(i)))
}

/// Whole blocks are tested at once; a block with a stray entry is then searched, because the entry may be forbidden.
fn stray<T: Copy + Into<f64>>(
    values: &[T],
    allowed: Option<&[bool]>,
    high: f64,
    fine: impl Fn(&[T]) -> bool,
) -> Option<usize> {
    values.chunks(BLOCK).enumerate().filter(|(_, block)| !fine(block)).find_map(|(b, block)| {
        let outside = |(i, x): (usize, &T)| {
            !(0.0..=high).contains(&(*x).into()) && allowed.is_none_or(|allowed| allowed[b * BLOCK + i])
        };
        block.iter().enumerate().position(outside).map(|i| b * BLOCK + i)
    })
}

type Usable<'a> = (Option<Cow<'a, [bool]>>, Option<Vec<u32>>);

/// The mask after the queries' own floors, and the queries that are left with a model (`None`: all).
pub(crate) fn usable<'a>(input: &Inputs<'a>) -> Result<Usable<'a>, ProblemError> {
    let (n, m) = (input.queries, input.models);
    let floored = input.query_floor.filter(|floors| floors.iter().any(|floor| *floor > 0.0));
    let mask: Cow<'a, [bool]> = match (input.allowed, floored) {
        (None, None) => return Ok((None, None)),
        (Some(allowed), None) => Cow::Borrowed(allowed),
        (allowed, Some(floors)) => {
            let clears = |i: usize, j: usize| floors[i].is_nan() || input.quality.at(i * m + j) >= floors[i];
            let may = |i: usize, j: usize| allowed.is_none_or(|a| a[i * m + j]) && clears(i, j);
            Cow::Owned((0..n * m).map(|at| may(at / m, at % m)).collect())
        }
    };
    let takers = |i: usize| mask[i * m..(i + 1) * m].iter().any(|&ok| ok);
    let Some(first) = (0..n).find(|&i| !takers(i)) else {
        return Ok((Some(mask), None));
    };
    if input.unroutable == Unroutable::Refuse {
        return Err(nobody(input, first));
    }
    let routable = (0..n).filter(|&i| takers(i)).map(|i| i as u32).collect();
    Ok((Some(mask), Some(routable)))
}

/// The sentence for a query that no model may take: its mask, or its floor.
fn nobody(input: &Inputs<'_>, query: usize) -> ProblemError {
    let m = input.models;
    let allowed = (0..m).filter(|&j| input.allowed.is_none_or(|a| a[query * m + j]));
    let best = allowed.map(|j| input.quality.at(query * m + j)).fold(f64::NEG_INFINITY, f64::max);
    match input.query_floor {
        Some(floors) if best.is_finite() => ProblemError::FloorUnreachable { query, floor: floors[query], best },
        _ => ProblemError::NoModel { query },
    }
}
