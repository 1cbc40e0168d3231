//! How much rounding counts as none: one set of numbers for the solver and for whoever checks its answers.

/// Allowed rounding of the requirement and of the limits of groups, relative; a proof is within it too.
pub const REQUIREMENT: f64 = 1e-9;
/// Allowed rounding of a sum of loads: relative to the capacity, for each query.
pub const LOAD: f64 = 4e-16;
