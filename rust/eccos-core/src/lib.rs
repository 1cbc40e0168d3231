//! Least-cost assignment of queries to language models under a quality promise and hard workload limits.
//!
//! With `N` queries and `M` models, cost `c`, predicted quality `a`, load `w` and capacity `L`:
//!
//! ```text
//! min  sum c[i,j] x[i,j]
//! s.t. sum_j x[i,j] = 1                       every query once
//!      sum a[i,j] x[i,j] >= min_quality * N   (or: maximise it under a budget, or give it a price)
//!      sum_i w[r,i,j] x[i,j] <= L[r,j]        every resource r of every model j
//!      sum_i sum_j w[r,i,j] x[i,j] <= L[p]    every pool p, over the models that share it
//!      x[i,j] = 0                             where the pair is not allowed
//! ```
//!
//! The relaxation has one multiplier for the quality row and one for each capacity: at multipliers `(lambda, mu)` a
//! query takes `argmin_j c - lambda a + sum_r mu[r,j] w[r]`. [`solve`] finds the best multipliers exactly, rounds,
//! repairs by exchanges, and returns the dual bound with the answer. Nothing here prints, keeps global state or
//! knows Python.

// The bodies of the hot loops must end up inside the functions that carry the processor features.
#![allow(clippy::inline_always)]
// A loop over the lanes of several arrays reads best with an index, and compiles to vectors; short updates of a whole
// array read best as `for_each`.
#![allow(clippy::needless_range_loop, clippy::needless_for_each)]

mod answer;
mod boundary;
mod control;
mod deferral;
mod dual;
mod duals;
mod frontier;
mod integer;
mod options;
mod parallel;
mod problem;
mod program;
mod relax;
mod screen;
mod simd;
mod solve;
mod tolerance;

pub use answer::{Counterfactuals, Explanation, Named, Reason, Repair, RepairParts, Solution, Stats, Status};
pub use boundary::{Interrupt, booleans, caught, time_limit};
pub use duals::Duals;
pub use frontier::{Frontier, frontier};
pub use options::Options;
pub use problem::{
    Criterion, Goal, Inputs, Label, MAX_MODELS, Matrix, Pooled, Priced, Problem, ProblemError, SideRow, Unroutable,
};
pub use solve::solve;
pub use tolerance::{LOAD, REQUIREMENT};
