//! Who is served when not everything fits.
//!
//! Queries are taken by priority, then in their order. With one request a query, the sets that fit together are those that
//! can be matched into the slots (a transversal matroid), so taking each query whenever the ones before it can
//! be rearranged to make room serves the lexicographically best set. With loads of their own that is bin packing:
//! each query then goes where it uses the smallest share of what is left.

use crate::problem::Problem;

/// The queries served, and where each fits.
pub(crate) struct Packing {
    /// Ascending.
    pub served: Vec<u32>,
    /// A model for every served query, within all capacities.
    pub model: Vec<u8>,
}

/// Queries by priority, then in their order.
fn by_priority(problem: &Problem<'_>) -> Vec<u32> {
    let mut order = routable(problem);
    if let Some(priority) = problem.input.priority {
        order.sort_by_key(|&i| std::cmp::Reverse(priority[i as usize]));
    }
    order
}

fn routable(problem: &Problem<'_>) -> Vec<u32> {
    problem.routable.clone().unwrap_or_else(|| (0..problem.queries() as u32).collect())
}

fn packing(placed: Vec<(u32, u8)>) -> Packing {
    let mut placed = placed;
    placed.sort_unstable();
    Packing { served: placed.iter().map(|&(i, _)| i).collect(), model: placed.iter().map(|&(_, j)| j).collect() }
}

/// One request a query: the best set that fits, or `None` when everything does.
pub(crate) fn match_requests(problem: &Problem<'_>) -> Option<Vec<u32>> {
    problem.input.capacity?;
    let (n, m) = (problem.routable.as_ref().map_or(problem.queries(), Vec::len), problem.models());
    let room: Vec<usize> = (0..m).map(|j| problem.whole_capacity(0, j).min(n as f64) as usize).collect();
    if problem.usable.is_none() {
        let total: usize = room.iter().sum();
        if total >= n {
            return None;
        }
        let mut served = by_priority(problem);
        served.truncate(total);
        served.sort_unstable();
        return Some(served);
    }
    if room.iter().all(|&room| room >= n) {
        return None;
    }
    let mut slots = Slots::new(problem, room);
    let mut served: Vec<u32> = by_priority(problem).into_iter().filter(|&i| slots.place(i)).collect();
    if served.len() == n {
        return None;
    }
    served.sort_unstable();
    Some(served)
}

/// Slots of every model and who holds them.
struct Slots<'a> {
    problem: &'a Problem<'a>,
    room: Vec<usize>,
    holders: Vec<Vec<u32>>,
    /// `movable[j * m + k]`: holders of j that k may take.
    movable: Vec<usize>,
    /// Models from which no free slot can be reached any more; that never changes back.
    closed: Vec<bool>,
}

impl<'a> Slots<'a> {
    fn new(problem: &'a Problem<'a>, room: Vec<usize>) -> Self {
        let m = room.len();
        Self { problem, room, holders: vec![vec![]; m], movable: vec![0; m * m], closed: vec![false; m] }
    }

    /// Gives the query a slot, moving others along a shortest chain of models when needed.
    fn place(&mut self, query: u32) -> bool {
        let m = self.room.len();
        let may = |j: usize| self.problem.may(query as usize, j);
        // Nearly always a model has room; filling the one with the most keeps chains rare.
        let open = (0..m).filter(|&j| self.room[j] > 0 && may(j));
        if let Some(j) = open.max_by_key(|&j| (self.room[j], std::cmp::Reverse(j))) {
            self.room[j] -= 1;
            self.hold(query, j);
            return true;
        }
        let mut queue: Vec<usize> = (0..m).filter(|&j| !self.closed[j] && may(j)).collect();
        let mut before = vec![None; m];
        let mut seen = vec![false; m];
        for &j in &queue {
            seen[j] = true;
        }
        let mut next = 0;
        while next < queue.len() {
            let j = queue[next];
            next += 1;
            if self.room[j] > 0 {
                self.room[j] -= 1;
                self.shift(query, j, &before);
                return true;
            }
            for k in 0..m {
                if !seen[k] && !self.closed[k] && self.movable[j * m + k] > 0 {
                    seen[k] = true;
                    before[k] = Some(j);
                    queue.push(k);
                }
            }
        }
        for j in queue {
            self.closed[j] = true;
        }
        false
    }

    /// Moves one holder along each link of the chain that ends at the free model `end`; the query takes its head.
    fn shift(&mut self, query: u32, end: usize, before: &[Option<usize>]) {
        let mut k = end;
        while let Some(j) = before[k] {
            let holder = self.holders[j].iter().position(|&i| self.problem.may(i as usize, k));
            let holder = holder.expect("`movable` counts the holders of j that k may take");
            let moved = self.holders[j].swap_remove(holder);
            self.count(moved, j, false);
            self.hold(moved, k);
            k = j;
        }
        self.hold(query, k);
    }

    fn hold(&mut self, query: u32, j: usize) {
        self.holders[j].push(query);
        self.count(query, j, true);
    }

    fn count(&mut self, query: u32, j: usize, comes: bool) {
        let m = self.room.len();
        for k in (0..m).filter(|&k| self.problem.may(query as usize, k)) {
            let movable = &mut self.movable[j * m + k];
            *movable = if comes { *movable + 1 } else { *movable - 1 };
        }
    }
}

/// Loads of their own: every query in turn to the model where it uses the smallest share of what is left.
pub(crate) fn pack_loads(problem: &Problem<'_>) -> Packing {
    let (m, resources) = (problem.models(), problem.input.resources);
    let mut room: Vec<f64> = (0..resources * m).map(|at| problem.whole_capacity(at / m, at % m)).collect();
    let mut placed = vec![];
    for query in by_priority(problem) {
        let i = query as usize;
        let share = |j: usize| {
            let of = |r: usize| {
                let (load, left) = (problem.load(r, i, j), room[r * m + j]);
                if load == 0.0 { 0.0 } else { load / left.max(0.0) }
            };
            (0..resources).map(of).fold(0.0, f64::max)
        };
        let options = (0..m).filter(|&j| problem.may(i, j)).map(|j| (share(j), j));
        let Some((share, j)) = options.min_by(|a, b| a.0.total_cmp(&b.0)) else {
            continue;
        };
        if share <= 1.0 {
            for r in 0..resources {
                room[r * m + j] -= problem.load(r, i, j);
            }
            placed.push((query, j as u8));
        }
    }
    packing(placed)
}
