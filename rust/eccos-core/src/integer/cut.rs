//! Out of time: an assignment at the prices known so far, from one pass over the queries.
//!
//! Every query goes to its model of least value. Those for which a capacity has no room left go to the cheapest model with
//! room; when the requirement is then missed, the queries near a tie take what gains most for its reduced cost.

use crate::answer::Measured;
use crate::problem::{Criterion, Room};
use crate::program::{Prepared, dot, least_value, pair_value};
use crate::screen::{self, screen};

/// Queries within so much of the requirement's multiplier may be moved to meet it.
const NEAR: f64 = 0.06;

/// What the pass came to.
pub(crate) struct Cut {
    /// The model of every query of the problem, -1 when none had room.
    pub model: Vec<i32>,
    pub measured: Measured,
    /// How many found no room.
    pub left: usize,
    /// `g(y)` on the data as given.
    pub bound: f64,
}

/// One pass at the multipliers `y`.
pub(crate) fn round_at_prices(prepared: &Prepared<'_>, y: &[f64], threads: Option<usize>) -> Cut {
    let mut key = vec![0; prepared.len()];
    let mut radius = vec![0.0; y.len()];
    radius[0] = NEAR * y[0];
    let found = screen(prepared, None, y, &radius, &mut key, threads);
    let mut least = found.held.objective(prepared) + dot(y, &found.safe);
    for &place in &found.open {
        let (value, model) = least_value(prepared, prepared.query(place as usize), y);
        least += value;
        key[place as usize] = model as u8;
    }
    let bound = least - dot(y, &prepared.limit);
    let mut rounding = Rounding { prepared, y, key, room: Room::new(prepared.problem), left: vec![] };
    let moved = rounding.fit();
    let mut fixed = found.held;
    let mut places = found.open.clone();
    for &(place, model) in &moved {
        // The open ones are read again in any case.
        if found.open.binary_search(&place).is_err() {
            screen::remove(prepared, prepared.query(place as usize), usize::from(model), &mut fixed);
            places.push(place);
        }
    }
    places.sort_unstable();
    let mut measured = rounding.measured(&fixed, &places);
    if rounding.left.is_empty() && rounding.mend(&found.open, &measured) {
        measured = rounding.measured(&fixed, &places);
    }
    if rounding.left.is_empty() && short(prepared, &measured) > 0.0 {
        // Those near a tie were not enough.
        let all: Vec<u32> = (0..prepared.len() as u32).collect();
        if rounding.mend(&all, &measured) {
            measured = rounding.measured(&fixed, &all);
        }
    }
    let left = rounding.left.len();
    let model = rounding.spread();
    if left > 0 {
        measured = Measured::new(prepared.problem, &model);
    }
    Cut { model, measured, left, bound }
}

struct Rounding<'a> {
    prepared: &'a Prepared<'a>,
    y: &'a [f64],
    key: Vec<u8>,
    room: Room<'a>,
    /// Places without room anywhere.
    left: Vec<u32>,
}

impl Rounding<'_> {
    /// Every query takes its room in turn, then those for which there was none look for another model: their places, and the
    /// model that each had.
    fn fit(&mut self) -> Vec<(u32, u8)> {
        if !self.prepared.problem.has_capacities() {
            return vec![];
        }
        let crowded = self.crowded();
        let mut moved = vec![];
        for (place, &j) in self.key.iter().enumerate().filter(|(_, j)| crowded[usize::from(**j)]) {
            let query = self.prepared.query(place);
            if self.room.fits(query, usize::from(j)) {
                self.room.take(query, usize::from(j));
            } else {
                moved.push((place as u32, j));
            }
        }
        for &(place, _) in &moved {
            let query = self.prepared.query(place as usize);
            let open = (0..self.prepared.problem.models())
                .filter(|&j| self.prepared.problem.may(query, j) && self.room.fits(query, j));
            let value = |j: usize| pair_value(self.prepared, query, j, self.y);
            match open.map(|j| (value(j), j)).min_by(|a, b| a.0.total_cmp(&b.0)) {
                Some((_, j)) => {
                    self.room.take(query, j);
                    self.key[place as usize] = j as u8;
                }
                None => self.left.push(place),
            }
        }
        moved
    }

    /// The models whose queries do not all fit, in one of their capacities or pools; those of the others take their room at once.
    fn crowded(&mut self) -> Vec<bool> {
        let problem = self.prepared.problem;
        let (m, resources) = (problem.models(), problem.input.resources);
        let mut load = vec![0.0; resources * m];
        if problem.input.load.is_none() {
            let mut count = [0u32; 256];
            self.key.iter().for_each(|&j| count[usize::from(j)] += 1);
            load.iter_mut().zip(count).for_each(|(load, count)| *load = f64::from(count));
        } else {
            for (place, &j) in self.key.iter().enumerate() {
                let query = self.prepared.query(place);
                (0..resources).for_each(|r| load[r * m + usize::from(j)] += problem.load(r, query, usize::from(j)));
            }
        }
        self.room.take_all(&load)
    }

    fn measured(&self, fixed: &screen::Sums, places: &[u32]) -> Measured {
        Measured::joined(self.prepared, fixed, places, &self.key)
    }

    /// Moves near queries until the requirement is met, or what it has to spare is spent; true when any was moved.
    fn mend(&mut self, near: &[u32], measured: &Measured) -> bool {
        let prepared = self.prepared;
        let mut need = short(prepared, measured);
        let missed = need > 0.0;
        if need == 0.0 {
            return false;
        }
        // The price of what a move gains, or gives away, is the same but for its reduced cost.
        let mut ways: Vec<(f64, u32, u8, f64)> = vec![];
        for &place in near {
            let (query, key) = (prepared.query(place as usize), usize::from(self.key[place as usize]));
            let (value, has) = (pair_value(prepared, query, key, self.y), prepared.pair(query, key).1);
            let way = |j: usize| {
                let gain = prepared.pair(query, j).1 - has;
                let useful = if missed { gain > 0.0 } else { gain < 0.0 };
                let rate = (pair_value(prepared, query, j, self.y) - value) / gain.abs();
                useful.then_some((rate, place, j as u8, gain))
            };
            let models = (0..prepared.problem.models()).filter(|&j| prepared.problem.may(query, j));
            ways.extend(models.filter_map(way).min_by(|a, b| a.0.total_cmp(&b.0)));
        }
        ways.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let any = !ways.is_empty();
        for (rate, place, j, gain) in ways {
            let query = prepared.query(place as usize);
            // To give away what is spare pays while that costs less than its price.
            let fine = missed || need - gain <= 0.0 && rate < self.y[0];
            if fine && self.room.fits(query, usize::from(j)) {
                self.room.take(query, usize::from(j));
                self.key[place as usize] = j;
                need -= gain;
                if missed && need <= 0.0 {
                    break;
                }
            }
        }
        any
    }

    /// The models of all queries.
    fn spread(&self) -> Vec<i32> {
        let mut model = crate::answer::spread(self.prepared, &self.key);
        for &place in &self.left {
            model[self.prepared.query(place as usize)] = -1;
        }
        model
    }
}

/// By how much the requirement is missed, in the program's scale; at most 0 when it is met.
fn short(prepared: &Prepared<'_>, measured: &Measured) -> f64 {
    let reached = match prepared.criterion {
        Criterion::Cost => measured.quality,
        Criterion::Quality => -measured.cost,
        Criterion::Value(_) => return 0.0,
    };
    -prepared.limit[0] - reached * prepared.scale_q
}
