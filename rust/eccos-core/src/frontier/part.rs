//! A stretch of the walk along the bases, over the queries that may change their model on it.
//!
//! Between two breakpoints next to each other the multipliers hardly move, so that in a box around them most queries keep
//! their model. One pass over all queries ([`crate::screen`]) sums those up; the walk goes on over the others alone, exactly
//! and for as long as it stays in the box. Then it takes the step that left the box again, in a box of its own.

use crate::control::Control;
use crate::dual::{Element, Leaving, Limits, Outcome, Start, State, Work};
use crate::program::{Lp, Prepared, dot};
use crate::relax::{self, large};
use crate::screen::{Sums, screen};

/// Up to so many queries one program holds them all.
const WHOLE: usize = 1000;
/// Steps over all queries before a box is tried again.
const STEPS: usize = 16;

/// A part of the walk.
pub(super) struct Part {
    pub lp: Lp,
    pub state: State,
    /// The served place of every query of `lp`, ascending.
    places: Vec<u32>,
    /// Where the part began, and how many steps it took.
    from: Vec<f64>,
    pub steps: usize,
    /// `None`: every query is in the program.
    bounds: Option<Bounds>,
    /// `g` of the whole program where the part began, from fresh sums.
    pub cost: f64,
}

/// The box of a part.
struct Bounds {
    centre: Vec<f64>,
    radius: Vec<f64>,
}

impl Part {
    /// At the cheapest assignment; `None` when the time was up.
    pub fn first(
        prepared: &Prepared<'_>,
        control: &Control<'_>,
        work: &mut Work,
        threads: Option<usize>,
    ) -> Option<Self> {
        let cold = vec![0.0; prepared.rows()];
        let relaxed = if large::is_small(prepared) {
            relax::direct(prepared, &cold, control, work)
        } else {
            large::solve(prepared, None, threads, control, work, true)?
        };
        if relaxed.outcome != Outcome::Optimal {
            return None;
        }
        let start = Start::of(&relaxed.state).renamed(|row| relaxed.places.get(row as usize).copied())?;
        Self::everything(prepared, &prepared.limit, &start, control, work)
    }

    /// Over all queries, from where a walk stands.
    fn everything(
        prepared: &Prepared<'_>,
        limit: &[f64],
        start: &Start,
        control: &Control<'_>,
        work: &mut Work,
    ) -> Option<Self> {
        let places: Vec<u32> = (0..prepared.len() as u32).collect();
        Self::over(prepared, places, limit.to_vec(), start, &Sums::of(prepared), control, work)
    }

    fn over(
        prepared: &Prepared<'_>,
        places: Vec<u32>,
        limit: Vec<f64>,
        start: &Start,
        held: &Sums,
        control: &Control<'_>,
        work: &mut Work,
    ) -> Option<Self> {
        let lp = Lp::build(prepared, places.iter().map(|&place| place as usize), limit);
        let here = |place: u32| places.binary_search(&place).ok().map(|row| row as u32);
        let mut state = start.clone().renamed(here)?.state(&lp);
        state.settle(&lp);
        if state.climb(&lp, work, &Limits::new(control)) != Outcome::Optimal {
            return None;
        }
        let cost = held.objective(prepared) + state.objective;
        Some(Self { from: state.y.clone(), lp, state, places, steps: 0, bounds: None, cost })
    }

    /// Where the walk stands, in places.
    pub fn start(&self) -> Option<Start> {
        Start::of(&self.state).renamed(|row| self.places.get(row as usize).copied())
    }

    /// True when a step led out of the box, or when it is time to try one.
    pub fn is_left(&self) -> bool {
        match &self.bounds {
            Some(Bounds { centre, radius }) => {
                let outside = |((y, centre), radius): ((&f64, &f64), &f64)| (y - centre).abs() > *radius;
                self.state.y.iter().zip(centre).zip(radius).any(outside)
            }
            None => self.places.len() > WHOLE && self.steps >= STEPS,
        }
    }

    /// True when nothing outside the program could stop a step.
    pub fn is_whole(&self) -> bool {
        self.bounds.is_none()
    }

    /// The next part, from `start`, where the requirement stands at `required` (scaled).
    pub fn next(
        &self,
        prepared: &Prepared<'_>,
        required: f64,
        start: &Start,
        (control, work, threads): (&Control<'_>, &mut Work, Option<usize>),
    ) -> Option<Self> {
        let mut limit = prepared.limit.clone();
        limit[0] = -required;
        let bounds = self.ahead(prepared, start.multipliers());
        if let Some(bounds) = bounds {
            let mut key = vec![0; prepared.len()];
            let found = screen(prepared, None, &bounds.centre, &bounds.radius, &mut key, threads);
            if found.open.len() * 2 < prepared.len() {
                let rest: Vec<f64> = limit.iter().zip(&found.safe).map(|(b, a)| b - a).collect();
                if let Some(part) = Self::over(prepared, found.open, rest, start, &found.held, control, work) {
                    return Some(Self { bounds: Some(bounds), ..part });
                }
            }
        }
        Self::everything(prepared, &limit, start, control, work)
    }

    /// A box that the next stretch stays in, as long as it goes on as before; of a size at which a pass over all queries
    /// costs about as much as the steps in the box.
    fn ahead(&self, prepared: &Prepared<'_>, y: &[f64]) -> Option<Bounds> {
        let moved: Vec<f64> = y.iter().zip(&self.from).map(|(to, from)| to - from).collect();
        let typical = (dot(&moved, &moved) / moved.len() as f64).sqrt();
        if typical == 0.0 || self.steps == 0 {
            // The first step led out already.
            let Bounds { radius, .. } = self.bounds.as_ref()?;
            let largest = radius.iter().copied().fold(1e-9, f64::max);
            let radius = radius.iter().map(|r| 4.0 * r.max(0.2 * largest)).collect();
            return Some(Bounds { centre: y.to_vec(), radius });
        }
        let wanted = (1.5 * (prepared.len() as f64).sqrt()).max(16.0 * prepared.rows() as f64);
        let further = if self.is_whole() { 4.0 } else { (wanted / self.places.len().max(1) as f64).clamp(0.2, 4.0) };
        let centre = y.iter().zip(&moved).map(|(y, d)| (y + 0.6 * further * d).max(0.0)).collect();
        let radius = moved.iter().map(|d| further * (0.8 * d.abs() + 0.25 * typical)).collect();
        Some(Bounds { centre, radius })
    }
}

/// How far the requirement can rise before a fraction of the vertex becomes impossible, and the element that then leaves.
pub(super) fn next_leaving(state: &State) -> Option<(f64, Leaving)> {
    let mut next: Option<(f64, Leaving)> = None;
    let mut offer = |room: f64, leaving: Leaving| {
        if next.is_none_or(|(nearest, _)| room < nearest) {
            next = Some((room, leaving));
        }
    };
    for (place, element) in state.basis.elements.iter().enumerate() {
        let theta = state.fraction(place);
        // theta = -B^-1 r, and the requirement is the first entry of r.
        let rate = -state.basis.row(place)[0];
        match element {
            Element::Start(_) | Element::Gone if rate.abs() > 1e-12 => {
                offer(0.0, Leaving { place, sign: if rate < 0.0 { 1.0 } else { -1.0 }, swap: false });
            }
            _ if rate < -1e-12 => offer((theta / -rate).max(0.0), Leaving { place, sign: 1.0, swap: false }),
            _ => {}
        }
        if let Element::Tie { row, .. } = *element {
            let sum = state.sum_of_rows(row);
            let (total, rate) = (-dot(&sum, &state.residual), -sum[0]);
            if rate > 1e-12 {
                offer(((1.0 - total) / rate).max(0.0), Leaving { place, sign: 1.0, swap: true });
            }
        }
    }
    next
}
