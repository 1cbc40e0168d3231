//! The problem in the terms of the method: the scaled rows, the program over some of the queries, and its values.

mod lp;
mod prepare;
mod side;
mod values;

pub(crate) use lp::{LANES, Lp, PERTURBED_ZERO, Sparse, dot, hash};
pub(crate) use prepare::{By, FORBIDDEN, NO_ROW, Prepared, Source};
pub(crate) use values::{dual_value, least_value, pair_value};
