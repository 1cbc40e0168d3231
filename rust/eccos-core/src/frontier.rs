//! The cost-quality frontier: the least cost of the relaxation at every attainable mean quality.

mod part;

use std::time::Instant;

use part::{Part, next_leaving};

use crate::control::Control;
use crate::deferral;
use crate::dual::Work;
use crate::options::Options;
use crate::problem::{Criterion, Equal, Problem, ProblemError};
use crate::program::Prepared;

/// Queries or edges between two looks at the clock.
const POLL: usize = 4096;

/// Breakpoints of the cost-quality curve, from the cheapest assignment to the best one. Between two breakpoints the
/// curve is a straight line.
#[derive(Clone, Debug, PartialEq)]
pub struct Frontier {
    /// Mean quality at each breakpoint, increasing.
    pub quality: Vec<f64>,
    /// Least total cost in US dollars at each breakpoint.
    pub cost: Vec<f64>,
    /// Dollars for one more unit of mean quality on the segment that ends at the breakpoint; 0 for the first.
    pub price: Vec<f64>,
    /// False when a limit ended the walk before the best attainable quality.
    pub complete: bool,
}

/// Follows the dual solution from the cheapest assignment to the best attainable quality.
///
/// The goal of `problem` is ignored; capacities, mask, floors and groups hold. When the capacities cannot take every
/// query, the curve is that of those who are served. At most `max_points` breakpoints are
/// returned, thinned evenly when there are more. Between two neighbouring bases only the requirement moves: the
/// fractions of the vertex change linearly with it, the first that becomes impossible leaves, and the dual ratio test says
/// what enters. Without capacities every query moves along its own lower hull, and the edges are merely sorted.
///
/// # Errors
/// When the tolerance in `options` is malformed.
pub fn frontier(problem: &Problem<'_>, options: &Options<'_>, max_points: usize) -> Result<Frontier, ProblemError> {
    options.check()?;
    if !problem.input.priced.is_empty() {
        return Err(ProblemError::Missing { argument: "priced", needs: "assign" });
    }
    let control = Control::new(options, Instant::now());
    let equal = Equal::find(problem);
    let pools = equal.as_ref().map_or(vec![], |equal| equal.pools(problem));
    let merged = equal.as_ref().map(|equal| equal.problem(problem, &pools));
    let problem = merged.as_ref().unwrap_or(problem);
    let matching = if problem.input.load.is_none() { deferral::match_requests(problem, &control) } else { None };
    let served = matching.map(|matching| matching.packing.served).or_else(|| problem.routable.clone());
    let prepared = Prepared::new(problem, served.as_deref(), Criterion::Cost, Some(0.0));
    let mut walk = Walk { points: vec![], complete: false };
    if prepared.len() > 0 {
        if prepared.terms.is_empty() {
            walk.along_hulls(&prepared, &control);
        } else {
            walk.along_bases(&prepared, &control, options.threads);
        }
    }
    Ok(walk.frontier(prepared.len(), max_points.max(2)))
}

/// One breakpoint: summed quality, cost, and the price of the segment that ends there; in dollars.
#[derive(Clone, Copy)]
struct Point {
    quality: f64,
    cost: f64,
    price: f64,
}

struct Walk {
    points: Vec<Point>,
    complete: bool,
}

impl Walk {
    fn push(&mut self, quality: f64, cost: f64, price: f64) {
        // Costs are >= 0; what the perturbation of the program takes from 0 is no saving.
        let cost = cost.max(self.points.last().map_or(0.0, |last| last.cost));
        // A change of basis without a change of quality is no breakpoint.
        if self.points.last().is_some_and(|last| quality - last.quality <= 1e-11 * quality) {
            return;
        }
        // A segment that goes on at the same price is the same segment.
        let same = |last: &Point| (price - last.price).abs() <= 1e-7 * price.abs();
        if self.points.len() > 1 && self.points.last().is_some_and(same) {
            self.points.pop();
        }
        self.points.push(Point { quality, cost, price });
    }

    /// No rows but the requirement: every query from its cheapest model up its own lower hull, cheapest edges first.
    fn along_hulls(&mut self, prepared: &Prepared<'_>, control: &Control<'_>) {
        let (mut quality, mut cost) = (0.0, 0.0);
        let mut edges: Vec<(f64, f64, f64)> = vec![];
        for place in 0..prepared.len() {
            if place % POLL == POLL - 1 && control.expired() {
                return;
            }
            let start = hull(prepared, prepared.query(place), &mut edges);
            (cost, quality) = (cost + start.0, quality + start.1);
        }
        edges.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        self.push(quality, cost, 0.0);
        for (step, (price, more_quality, more_cost)) in edges.into_iter().enumerate() {
            if step % POLL == POLL - 1 && control.expired() {
                return;
            }
            (quality, cost) = (quality + more_quality, cost + more_cost);
            self.push(quality, cost, price);
        }
        self.complete = true;
    }

    /// From basis to basis, over the queries that may change their model nearby.
    fn along_bases(&mut self, prepared: &Prepared<'_>, control: &Control<'_>, threads: Option<usize>) {
        let mut work = Work::default();
        let Some(mut part) = Part::first(prepared, control, &mut work, threads) else { return };
        let (mut required, mut cost) = (0.0, part.cost);
        let (most, mut steps) = (100 * prepared.len() * prepared.problem.models() + 1000, 0);
        while steps < most {
            steps += 1;
            if steps % 4 == 3 && control.expired() {
                return;
            }
            if part.state.basis.age >= 60 {
                part.state.refresh(&part.lp);
            }
            let Some((room, leaving)) = next_leaving(&part.state) else { return };
            let price = part.state.y[0];
            (required, cost) = (required + room, cost + price * room);
            part.lp.limit[0] -= room;
            part.state.residual[0] += room;
            let unscaled = price * prepared.scale_q / prepared.scale_p;
            self.push(required / prepared.scale_q, cost / prepared.scale_p, unscaled);
            let Some(start) = part.start() else { return };
            let went = part.state.pivot(&part.lp, &mut work, leaving);
            if !went && part.is_whole() {
                self.complete = true;
                return;
            }
            if went && !part.is_left() {
                part.steps += 1;
                continue;
            }
            let effort = (control, &mut work, threads);
            let Some(next) = part.next(prepared, required, &start, effort) else { return };
            part = next;
            cost = part.cost;
        }
    }

    fn frontier(self, queries: usize, max_points: usize) -> Frontier {
        let last = self.points.len().saturating_sub(1);
        let kept: Vec<Point> = if self.points.len() <= max_points {
            self.points
        } else {
            (0..max_points).map(|t| self.points[t * last / (max_points - 1)]).collect()
        };
        let n = queries as f64;
        Frontier {
            quality: kept.iter().map(|point| point.quality / n).collect(),
            cost: kept.iter().map(|point| point.cost).collect(),
            price: kept.iter().map(|point| point.price * n).collect(),
            complete: self.complete,
        }
    }
}

/// The cost and quality of a query's cheapest model; its lower hull above that goes to `edges` as (price, quality, cost).
fn hull(prepared: &Prepared<'_>, query: usize, edges: &mut Vec<(f64, f64, f64)>) -> (f64, f64) {
    let problem = prepared.problem;
    let models = (0..problem.models()).filter(|&j| problem.may(query, j));
    let mut pairs: Vec<(f64, f64)> = models.map(|j| (problem.cost(query, j), problem.quality(query, j))).collect();
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut corners: Vec<(f64, f64)> = vec![];
    for (cost, quality) in pairs {
        if corners.last().is_some_and(|last| quality <= last.1) {
            continue;
        }
        // Drop corners above the line from the one before them to the new pair.
        while let [.., a, b] = corners[..] {
            if (b.0 - a.0) * (quality - b.1) < (cost - b.0) * (b.1 - a.1) {
                break;
            }
            corners.pop();
        }
        corners.push((cost, quality));
    }
    for pair in corners.windows(2) {
        let (cost, quality) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
        edges.push((cost / quality, quality, cost));
    }
    corners[0]
}
