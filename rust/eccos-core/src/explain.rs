//! Why a problem cannot be met as asked, the best that can be had, and the cheapest way to repair it.

/// What stands in the way.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// The capacities hold fewer queries than there are.
    CapacityShort {
        /// Queries to serve.
        demand: usize,
        /// Queries that fit.
        served: usize,
    },
    /// The promised mean quality is above the mean of each query's best allowed model.
    QualityAboveBest {
        /// The promised mean quality.
        wanted: f64,
        /// The mean of each query's best allowed model, whatever the capacities.
        best: f64,
    },
    /// The promised mean quality is above what the capacities allow.
    QualityAboveCapacities {
        /// The promised mean quality.
        wanted: f64,
        /// No assignment within the capacities has a higher mean quality than this.
        attainable: f64,
    },
    /// The budget is below the sum of each query's cheapest allowed model.
    BudgetBelowCheapest {
        /// The budget in US dollars.
        wanted: f64,
        /// The sum of each query's cheapest allowed model, whatever the capacities.
        cheapest: f64,
    },
    /// The budget is below what the capacities allow.
    BudgetBelowCapacities {
        /// The budget in US dollars.
        wanted: f64,
        /// No assignment within the capacities costs less than this.
        attainable: f64,
    },
    /// A group's own quality floor cannot be met within the other limits.
    GroupQuality {
        /// The group.
        group: usize,
        /// Its promised mean quality.
        wanted: f64,
        /// What the returned assignment gives it.
        got: f64,
    },
    /// A group's own budget cannot be met within the other limits.
    GroupBudget {
        /// The group.
        group: usize,
        /// Its budget in US dollars.
        wanted: f64,
        /// What the returned assignment costs it.
        got: f64,
    },
    /// The linear relaxation has a solution, but no whole assignment was found (`proven`: there is none).
    NoWholeAssignment {
        /// True when branch and bound proved that none exists.
        proven: bool,
    },
}

/// The least change of the limits that makes the problem solvable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Repair {
    /// Lower the promised mean quality to this (quality mode).
    pub min_quality: Option<f64>,
    /// Raise the budget to this, in US dollars (budget mode).
    pub budget: Option<f64>,
    /// Or raise these capacities: resource, model, and by how much.
    pub capacity: Vec<(usize, usize, f64)>,
}

/// Why the problem could not be met as asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Everything that stands in the way, the widest reason first.
    pub reasons: Vec<Reason>,
    /// The cheapest repair known.
    pub repair: Repair,
}
