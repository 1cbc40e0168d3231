//! The queries of a kind dealt out to its equal columns: an answer over kinds becomes one over all models.

use super::candidate::Candidate;
use crate::problem::{Equal, Problem};

/// The lightest queries of a kind are dealt out last, heaviest first: they even out what the others left.
const LIGHT: usize = 8192;

/// The candidate over all models; `None` when the loads of a kind were not made to fit its columns.
pub(crate) fn deal(problem: &Problem<'_>, equal: &Equal, mut candidate: Candidate) -> Option<Candidate> {
    if candidate.model.is_empty() {
        return Some(candidate);
    }
    let (m, kinds) = (problem.models(), equal.members.len());
    let mut load = vec![0.0; problem.input.resources * m];
    for (at, &used) in candidate.measured.load.iter().enumerate() {
        load[at / kinds * m + usize::from(equal.members[at % kinds][0])] = used;
    }
    let mut queries: Vec<Vec<u32>> = vec![vec![]; kinds];
    for (i, slot) in candidate.model.iter_mut().enumerate().filter(|(_, slot)| **slot >= 0) {
        let kind = *slot as usize;
        if equal.members[kind].len() > 1 {
            queries[kind].push(i as u32);
        } else {
            *slot = i32::from(equal.members[kind][0]);
        }
    }
    for (members, queries) in equal.members.iter().zip(queries).filter(|(members, _)| members.len() > 1) {
        let mut hands = Hands::new(problem, members, &queries);
        if problem.input.load.is_none() {
            hands.deal_requests(&queries, &mut candidate.model);
        } else {
            hands.deal_loads(queries, &mut candidate.model);
        }
        for (e, &j) in members.iter().enumerate() {
            for (r, used) in hands.used[e].iter().enumerate() {
                load[r * m + usize::from(j)] = *used;
            }
        }
    }
    candidate.measured.load = load;
    candidate.duals = equal.spread(problem, &candidate.duals);
    let fits = problem.input.load.is_none() || candidate.measured.capacities_hold(problem);
    fits.then_some(candidate)
}

/// The equal columns of one kind while its queries are dealt out.
struct Hands<'a> {
    problem: &'a Problem<'a>,
    members: &'a [u16],
    /// By column and resource: its capacity, at most what all queries use together, and what is used of it.
    room: Vec<Vec<f64>>,
    used: Vec<Vec<f64>>,
}

impl<'a> Hands<'a> {
    fn new(problem: &'a Problem<'a>, members: &'a [u16], queries: &[u32]) -> Self {
        let resources = problem.input.resources;
        let any = usize::from(members[0]);
        let total: Vec<f64> =
            (0..resources).map(|r| queries.iter().map(|&i| problem.load(r, i as usize, any)).sum()).collect();
        let room =
            |&j: &u16| (0..resources).map(|r| problem.whole_capacity(r, usize::from(j)).min(total[r])).collect();
        Self {
            problem,
            members,
            room: members.iter().map(room).collect(),
            used: vec![vec![0.0; resources]; members.len()],
        }
    }

    /// One request a query: each to the column that it leaves least full, in the order of the queries, so that every column
    /// gets its share of any stretch of the batch.
    fn deal_requests(&mut self, queries: &[u32], model: &mut [i32]) {
        let share: Vec<f64> = self.room.iter().map(|room| 1.0 / room[0]).collect();
        let mut next = share.clone();
        for &i in queries {
            let e = (1..next.len()).fold(0, |best, e| if next[e] < next[best] { e } else { best });
            self.used[e][0] += 1.0;
            next[e] = (self.used[e][0] + 1.0) * share[e];
            model[i as usize] = i32::from(self.members[e]);
        }
    }

    /// Loads of their own: the same with the heaviest first, as far as it matters; what then overflows is exchanged.
    fn deal_loads(&mut self, mut queries: Vec<u32>, model: &mut [i32]) {
        let size = |i: u32| -> f64 {
            let share = |r: usize| self.load(r, i) / self.room.iter().map(|room| room[r]).fold(1e-300, f64::max);
            (0..self.room[0].len()).map(share).fold(0.0, f64::max)
        };
        let heavier = |a: &u32, b: &u32| size(*b).total_cmp(&size(*a)).then(a.cmp(b));
        let first = queries.len().saturating_sub(LIGHT);
        if first > 0 {
            queries.select_nth_unstable_by(first, heavier);
        }
        queries[first..].sort_unstable_by(heavier);
        let mut hand = vec![0; queries.len()];
        for (&i, slot) in queries.iter().zip(&mut hand) {
            let e = (0..self.members.len())
                .map(|e| (self.fill(e, i), e))
                .fold((f64::INFINITY, 0), |best, next| if next.0 < best.0 { next } else { best });
            *slot = e.1;
            for r in 0..self.used[e.1].len() {
                self.used[e.1][r] += self.load(r, i);
            }
        }
        if self.problem.input.resources == 1 {
            self.exchange(&queries[first..], &mut hand[first..]);
        }
        for (&i, e) in queries.iter().zip(hand) {
            model[i as usize] = i32::from(self.members[e]);
        }
    }

    fn load(&self, resource: usize, query: u32) -> f64 {
        self.problem.load(resource, query as usize, usize::from(self.members[0]))
    }

    /// How full a column would be with one more query.
    fn fill(&self, e: usize, query: u32) -> f64 {
        let share = |r: usize| {
            let after = self.used[e][r] + self.load(r, query);
            if after > 0.0 { after / self.room[e][r] } else { 0.0 }
        };
        (0..self.room[e].len()).map(share).fold(0.0, f64::max)
    }

    /// One resource: a column that overflows gives a query for a lighter one of a column with room, as long as that ends it.
    fn exchange(&mut self, queries: &[u32], hand: &mut [usize]) {
        for _ in 0..2 * self.members.len() {
            let over = |e: usize| self.used[e][0] - self.room[e][0];
            let most = |a: usize, b: usize| if over(b) > over(a) { b } else { a };
            let (from, to) = (0..self.members.len())
                .fold((0, 0), |(from, to), e| (most(from, e), if over(e) < over(to) { e } else { to }));
            let (least, room) = (over(from).max(0.0), -over(to));
            if least == 0.0 || room <= 0.0 {
                return;
            }
            // What two columns can mend between them, or as much of it as the second has room for.
            let least = least.min(room);
            let mut theirs: Vec<(f64, usize)> = vec![(0.0, usize::MAX)];
            theirs.extend((0..hand.len()).filter(|&t| hand[t] == to).map(|t| (self.load(0, queries[t]), t)));
            theirs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let pair = (0..hand.len()).filter(|&t| hand[t] == from).find_map(|t| {
                let load = self.load(0, queries[t]);
                let at = theirs.partition_point(|other| load - other.0 > room);
                theirs.get(at).filter(|other| load - other.0 >= least).map(|other| (t, *other, load - other.0))
            });
            let Some((t, other, moved)) = pair else { return };
            hand[t] = to;
            if other.1 < hand.len() {
                hand[other.1] = from;
            }
            self.used[from][0] -= moved;
            self.used[to][0] += moved;
        }
    }
}
