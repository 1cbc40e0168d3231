//! Whole answers under loads: simulated annealing on the distance to the bound.
//!
//! With multipliers `y` and reduced costs `d` (a pair's value above the least of its query), the objective of a
//! feasible assignment is `g(y) + sum d + sum_k y_k room_k`: what it pays above the bound is the reduced cost of its
//! pairs and the price of the room that it leaves unused. That sum is what the search makes small, a row over its limit
//! charged above its price. It moves one query, or moves one and ejects another from where the first went; a pair
//! whose reduced cost alone exceeds the best distance known cannot be in a better assignment and is no candidate.
//! Deterministic: the random numbers depend on nothing but the seed.

use super::ledger::Ledger;
use crate::control::Control;
use crate::program::Lp;

/// Proposals between two looks at the clock.
const POLL: usize = 2048;
/// Ejections tried for one move.
const EJECTIONS: usize = 3;
/// Rounds, and up to how many queries half of them start afresh.
const ROUNDS: usize = 6;
const RESTARTED: usize = 256;
/// First and last temperature of a round, in ranges of a typical query: from the start, and from the best known.
const FRESH: (f64, f64) = (0.2, 2e-4);
const REFINED: (f64, f64) = (0.03, 1e-4);
/// Pairs within so many temperatures of the least value of their query are proposed, and at least so many for each row.
const REACH: f64 = 20.0;
const LEAST: usize = 40;

/// The search over one program.
pub(crate) struct Anneal<'a> {
    lp: &'a Lp,
    control: &'a Control<'a>,
    /// Numbers of a pair: one entry for each family, and the requirement.
    width: usize,
    pairs: Vec<Pair>,
    /// Row and coefficient of every entry of every pair; rows beyond the last are no rows.
    entries: Vec<(u32, f64)>,
    /// Every query's place among `pairs`.
    current: Vec<u32>,
    /// All pairs by reduced cost, and how many of them are within reach at the current temperature.
    order: Vec<u32>,
    active: usize,
    /// Pairs within reach of the queries that were at each model when the temperature was set.
    leaving: Vec<Vec<u32>>,
    room: Vec<f64>,
    slack: Vec<f64>,
    price: Vec<f64>,
    penalty: Vec<f64>,
    /// Rows over their limits, and the distance with what they are charged.
    over: usize,
    distance: f64,
    random: Random,
    best: Best,
}

#[derive(Clone, Copy)]
struct Pair {
    query: u32,
    model: u8,
    reduced: f64,
}

/// The best feasible assignment, and its distance from the bound.
struct Best {
    distance: f64,
    model: Option<Vec<u8>>,
}

impl<'a> Anneal<'a> {
    /// At multipliers `y`, from an assignment that may break limits; `weight` is what these count for beside the objective.
    pub fn new(lp: &'a Lp, y: &[f64], model: &[u8], weight: f64, control: &'a Control<'a>) -> Self {
        let rows = lp.rows();
        let slack = Ledger::new(lp, model).slack().to_vec();
        let mut price = y.to_vec();
        let typical = y.iter().sum::<f64>() / rows as f64;
        let mut penalty: Vec<f64> = price.iter().map(|y| weight * (3.0 * y + typical + 0.3)).collect();
        price.push(0.0);
        penalty.push(0.0);
        let mut anneal = Self {
            lp,
            control,
            width: 1 + lp.families.len(),
            pairs: vec![],
            entries: vec![],
            current: vec![],
            order: vec![],
            active: 0,
            leaving: vec![vec![]; lp.m],
            room: vec![],
            slack,
            price,
            penalty,
            over: 0,
            distance: 0.0,
            random: Random(0x9E37_79B9_7F4A_7C15),
            best: Best { distance: f64::INFINITY, model: None },
        };
        anneal.slack.push(f64::INFINITY);
        anneal.place_all(model, f64::INFINITY);
        anneal
    }

    /// Searches with about so many proposals, until the distance is at most `target`. Returns the best feasible assignment
    /// and its objective. The first rounds start from the given assignment, the others from the best.
    pub fn run(mut self, proposals: usize, target: f64) -> Option<(Vec<u8>, f64)> {
        let fresh = if self.lp.n <= RESTARTED { ROUNDS / 2 } else { 1 };
        let start: Vec<u8> = self.current.iter().map(|&pair| self.pairs[pair as usize].model).collect();
        for round in 0..ROUNDS {
            self.record();
            if self.best.distance <= target || self.control.expired() {
                break;
            }
            let (hot, cold) = if round < fresh { FRESH } else { REFINED };
            self.cool(proposals / ROUNDS, hot, cold, target);
            match self.best.model.clone() {
                Some(_) if round + 1 < fresh => self.place_all(&start, self.best.distance),
                Some(model) => self.place_all(&model, self.best.distance),
                None => self.penalty.iter_mut().for_each(|penalty| *penalty *= 3.0),
            }
        }
        let model = self.best.model?;
        let objective = self.lp.objective(&model);
        Ledger::new(self.lp, &model).holds().then_some((model, objective))
    }

    /// Lists the candidates of reduced cost up to `limit` and stands at an assignment.
    fn place_all(&mut self, model: &[u8], limit: f64) {
        let lp = self.lp;
        self.pairs.clear();
        self.entries.clear();
        self.current.clear();
        self.room.clear();
        self.room.extend(lp.residual(model).iter().map(|r| -r));
        self.room.push(0.0);
        let mut reduced = 0.0;
        let mut row = vec![];
        for i in 0..lp.n {
            row.clear();
            row.extend((0..lp.m).filter(|&j| lp.may(i, j)).map(|j| (lp.value(&self.price, i, j), j)));
            row.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let least = row.first().map_or(0.0, |pair| pair.0);
            for &(value, j) in &row {
                let own = usize::from(model[i]) == j;
                if own {
                    self.current.push(self.pairs.len() as u32);
                    reduced += value - least;
                } else if value - least > limit {
                    continue;
                }
                self.pairs.push(Pair { query: i as u32, model: j as u8, reduced: value - least });
                let before = self.entries.len();
                lp.each(i, j, |k, a| self.entries.push((k as u32, a)));
                self.entries.resize(before + self.width, (lp.rows() as u32, 0.0));
            }
        }
        self.order.clear();
        self.order.extend(0..self.pairs.len() as u32);
        let pairs = &self.pairs;
        self.order.sort_unstable_by(|&a, &b| {
            pairs[a as usize].reduced.total_cmp(&pairs[b as usize].reduced).then(a.cmp(&b))
        });
        self.over = (0..lp.rows()).filter(|&k| self.room[k] < -self.slack[k]).count();
        self.distance = reduced + (0..lp.rows()).map(|k| self.charge(k, self.room[k])).sum::<f64>();
    }

    #[inline(always)]
    fn charge(&self, k: usize, room: f64) -> f64 {
        if room >= -self.slack[k] { self.price[k] * room.max(0.0) } else { -self.penalty[k] * room }
    }

    /// Keeps the assignment when it is feasible and better.
    #[inline(always)]
    fn record(&mut self) {
        if self.over == 0 && self.distance < self.best.distance * (1.0 - 1e-9) {
            self.keep();
        }
    }

    fn keep(&mut self) {
        self.best.distance = self.distance;
        let model = self.best.model.get_or_insert_with(|| vec![0; self.lp.n]);
        for (slot, &pair) in model.iter_mut().zip(&self.current) {
            *slot = self.pairs[pair as usize].model;
        }
    }

    /// One round: proposals at a falling temperature.
    fn cool(&mut self, proposals: usize, hot: f64, cold: f64, target: f64) {
        let blocks = proposals.div_ceil(POLL).max(1);
        let fall = (cold / hot).powf(1.0 / blocks as f64);
        let mut temperature = hot;
        for _ in 0..blocks {
            if self.best.distance <= target || self.control.expired() {
                return;
            }
            self.reach(REACH * temperature);
            for _ in 0..POLL {
                self.propose(temperature);
            }
            temperature *= fall;
        }
    }

    /// Lists the pairs of reduced cost within reach, by the model that their query would leave.
    fn reach(&mut self, reach: f64) {
        let pairs = &self.pairs;
        let least = (LEAST * self.lp.rows() + self.lp.n).min(self.order.len());
        self.active = self.order.partition_point(|&pair| pairs[pair as usize].reduced <= reach).max(least);
        self.leaving.iter_mut().for_each(Vec::clear);
        for &pair in &self.order[..self.active] {
            let at = self.current[pairs[pair as usize].query as usize];
            if at != pair {
                self.leaving[usize::from(pairs[at as usize].model)].push(pair);
            }
        }
    }

    /// One query to another model, alone or with ejections from where it goes; taken or undone.
    #[inline(always)]
    fn propose(&mut self, temperature: f64) {
        let to = self.order[self.random.below(self.active)] as usize;
        let i = self.pairs[to].query as usize;
        let from = self.current[i] as usize;
        if from == to {
            return;
        }
        let worst = self.distance + temperature * self.random.exponential();
        let before = (self.distance, self.over);
        self.shift(from, to);
        if self.distance < worst {
            self.current[i] = to as u32;
            self.record();
            return;
        }
        for _ in 0..EJECTIONS {
            let Some((k, out, next)) = self.ejected(to, [i, i]) else { continue };
            let between = (self.distance, self.over);
            self.shift(out, next);
            if self.distance < worst {
                self.current[i] = to as u32;
                self.current[k] = next as u32;
                self.record();
                return;
            }
            if let Some((l, last, end)) = self.ejected(next, [i, k]) {
                let third = (self.distance, self.over);
                self.shift(last, end);
                if self.distance < worst {
                    self.current[i] = to as u32;
                    self.current[k] = next as u32;
                    self.current[l] = end as u32;
                    self.record();
                    return;
                }
                self.shift(end, last);
                (self.distance, self.over) = third;
            }
            self.shift(next, out);
            (self.distance, self.over) = between;
        }
        self.shift(to, from);
        (self.distance, self.over) = before;
    }

    /// A query to eject from where a pair goes: the query, its pair, and its next one.
    #[inline(always)]
    fn ejected(&mut self, pair: usize, not: [usize; 2]) -> Option<(usize, usize, usize)> {
        let model = self.pairs[pair].model;
        let leaving = &self.leaving[usize::from(model)];
        if leaving.is_empty() {
            return None;
        }
        let next = leaving[self.random.below(leaving.len())] as usize;
        let query = self.pairs[next].query as usize;
        let out = self.current[query] as usize;
        let fits = out != next && self.pairs[out].model == model && !not.contains(&query);
        fits.then_some((query, out, next))
    }

    /// Moves the sums from one pair of a query to another.
    #[inline(always)]
    fn shift(&mut self, from: usize, to: usize) {
        self.distance += self.pairs[to].reduced - self.pairs[from].reduced;
        for t in 0..self.width {
            let (k, a) = self.entries[from * self.width + t];
            self.change(k as usize, a);
        }
        for t in 0..self.width {
            let (k, a) = self.entries[to * self.width + t];
            self.change(k as usize, -a);
        }
    }

    #[inline(always)]
    fn change(&mut self, k: usize, by: f64) {
        let (old, new) = (self.room[k], self.room[k] + by);
        self.distance += self.charge(k, new) - self.charge(k, old);
        self.over = self.over + usize::from(new < -self.slack[k]) - usize::from(old < -self.slack[k]);
        self.room[k] = new;
    }
}

/// A small generator (xorshift with a multiplication).
struct Random(u64);

impl Random {
    #[inline(always)]
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `count`, which is above 0 and below 2^32.
    #[inline(always)]
    fn below(&mut self, count: usize) -> usize {
        (((self.next() >> 32) * count as u64) >> 32) as usize
    }

    /// Exponentially distributed with mean 1.
    #[inline(always)]
    fn exponential(&mut self) -> f64 {
        let uniform = ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -uniform.ln()
    }
}
