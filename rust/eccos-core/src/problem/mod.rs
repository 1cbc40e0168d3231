//! The problem as the caller states it, checked once.

mod check;
mod equal;
mod limit;

pub(crate) use equal::Equal;
pub(crate) use limit::Room;
pub use limit::{Label, Pooled, Priced, SideRow};

/// The most models a pool may have.
pub const MAX_MODELS: usize = 256;

/// A borrowed row-major array of either precision.
#[derive(Clone, Copy, Debug)]
pub enum Matrix<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
}

impl Matrix<'_> {
    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// True when there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of the entries.
    pub(crate) fn part(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[range]),
            Self::F64(values) => Self::F64(&values[range]),
        }
    }

    /// One entry in double precision.
    #[inline]
    #[must_use]
    pub fn at(&self, index: usize) -> f64 {
        match self {
            Self::F32(values) => f64::from(values[index]),
            Self::F64(values) => values[index],
        }
    }
}

/// Runs an expression on two matrices as slices of their own types, so that a hot loop is compiled for each pair of types.
macro_rules! with_types {
    ($first:expr, $second:expr, |$a:ident, $b:ident| $body:expr) => {
        match ($first, $second) {
            ($crate::problem::Matrix::F32($a), $crate::problem::Matrix::F32($b)) => $body,
            ($crate::problem::Matrix::F32($a), $crate::problem::Matrix::F64($b)) => $body,
            ($crate::problem::Matrix::F64($a), $crate::problem::Matrix::F32($b)) => $body,
            ($crate::problem::Matrix::F64($a), $crate::problem::Matrix::F64($b)) => $body,
        }
    };
}
pub(crate) use with_types;

/// What is asked for beside the capacities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Least total cost with a mean quality of at least `min`.
    Quality {
        /// The promised mean quality, in [0, 1].
        min: f64,
    },
    /// Highest total quality with a total cost of at most `max`.
    Budget {
        /// The budget in US dollars.
        max: f64,
    },
    /// Least total of cost minus `value` times quality.
    Price {
        /// US dollars for one more well answered query.
        value: f64,
    },
}

/// What is optimised, which follows from the goal and from whether it can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Criterion {
    /// The least total cost; a requirement, if any, is on quality.
    #[default]
    Cost,
    /// The highest mean quality; a requirement, if any, is on cost.
    Quality,
    /// The least of cost minus this many dollars for each unit of quality; no requirement.
    Value(f64),
}

impl Criterion {
    /// One word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::Quality => "quality",
            Self::Value(_) => "value",
        }
    }
}

/// What to do with a query that no model may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unroutable {
    /// Refuse the problem, naming the first such query.
    #[default]
    Refuse,
    /// Leave it without a model (-1) and solve for the others.
    Defer,
}

/// Everything a caller passes, borrowed. Shapes are row-major; `R` is `resources`.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// N, the number of queries.
    pub queries: usize,
    /// M, the number of models.
    pub models: usize,
    /// (N, M) US dollars, >= 0.
    pub cost: Matrix<'a>,
    /// (N, M) probability of a good answer, in [0, 1].
    pub quality: Matrix<'a>,
    /// What is asked for.
    pub goal: Goal,
    /// R, the number of limited resources; 1 when `load` is `None`.
    pub resources: usize,
    /// (R, N, M) use of each resource, >= 0; `None`: every query is one request.
    pub load: Option<Matrix<'a>>,
    /// (R, M) limits, >= 0, infinity for none.
    pub capacity: Option<&'a [f64]>,
    /// Capacities that several models share, beside their own.
    pub pools: &'a [Pooled<'a>],
    /// Limits on sums or means of other figures.
    pub rows: &'a [SideRow<'a>],
    /// Prices on loads above or below a level; not under a budget.
    pub priced: &'a [Priced<'a>],
    /// (N, M) pairs that may be chosen; the other pairs may hold anything, NaN included.
    pub allowed: Option<&'a [bool]>,
    /// (N,) least quality of the pair chosen for each query; NaN for none.
    pub query_floor: Option<&'a [f64]>,
    /// (N,) higher is served first when not everything fits.
    pub priority: Option<&'a [i64]>,
    /// (N,) group of each query, below G.
    pub group: Option<&'a [u32]>,
    /// (G,) least mean quality of each group; NaN for none.
    pub group_min_quality: Option<&'a [f64]>,
    /// (G,) highest total cost of each group in US dollars; NaN for none.
    pub group_budget: Option<&'a [f64]>,
    /// What to do with a query that no model may take.
    pub unroutable: Unroutable,
}

impl<'a> Inputs<'a> {
    /// The plain problem: no capacities, no mask, nothing else.
    #[must_use]
    pub fn new(queries: usize, models: usize, cost: Matrix<'a>, quality: Matrix<'a>, goal: Goal) -> Self {
        Self {
            queries,
            models,
            cost,
            quality,
            goal,
            resources: 1,
            load: None,
            capacity: None,
            pools: &[],
            rows: &[],
            priced: &[],
            allowed: None,
            query_floor: None,
            priority: None,
            group: None,
            group_min_quality: None,
            group_budget: None,
            unroutable: Unroutable::Refuse,
        }
    }
}

/// Why a problem is refused: what is wrong, what was got, what was wanted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProblemError {
    /// An array has the wrong number of entries.
    #[error("{argument} has {got} entries, wanted {wanted} ({shape})")]
    Shape {
        /// The argument.
        argument: &'static str,
        /// Entries found.
        got: usize,
        /// Entries wanted.
        wanted: usize,
        /// The shape in words.
        shape: String,
    },
    /// An entry is out of range.
    #[error("{argument}{place} is {got}, wanted {wanted}")]
    Value {
        /// The argument.
        argument: &'static str,
        /// Where, for example `[3, 1]`; empty for a scalar.
        place: String,
        /// The value found.
        got: String,
        /// The range in words.
        wanted: &'static str,
    },
    /// A mask holds something else than booleans.
    #[error("{argument} holds a byte other than 0 and 1, wanted booleans")]
    Boolean {
        /// The argument.
        argument: &'static str,
    },
    /// The pool is empty or too large.
    #[error("the pool has {got} models, wanted 1 to {MAX_MODELS}")]
    Models {
        /// The number of models.
        got: usize,
    },
    /// More queries than an index can hold.
    #[error("the batch has {got} queries, wanted at most {limit}", limit = check::MAX_QUERIES)]
    Queries {
        /// The number of queries.
        got: usize,
    },
    /// More limits than the method is made for.
    #[error(
        "capacity, pools, rows, group_min_quality and group_budget hold {got} finite limits, wanted at most {limit}",
        limit = check::MAX_LIMITS
    )]
    Limits {
        /// The number of finite limits.
        got: usize,
    },
    /// An argument needs another one.
    #[error("{argument} was given without {needs}, wanted both or neither")]
    Missing {
        /// The argument that was given.
        argument: &'static str,
        /// The one that is missing.
        needs: &'static str,
    },
    /// No model may take a query.
    #[error("query {query}: allowed has no model for it, wanted at least one")]
    NoModel {
        /// The query.
        query: usize,
    },
    /// No model reaches a query's own floor.
    #[error(
        "query {query}: query_floor is {floor}, but its best allowed model has quality {best}, wanted a floor at or below that"
    )]
    FloorUnreachable {
        /// The query.
        query: usize,
        /// Its floor.
        floor: f64,
        /// The best quality among its allowed models.
        best: f64,
    },
}

/// A checked problem. Making one reads every entry once; solving it cannot fail on its values.
#[derive(Clone, Debug)]
pub struct Problem<'a> {
    pub(crate) input: Inputs<'a>,
    /// Pairs that may be chosen after the floors of the queries; `None` when every pair may.
    pub(crate) usable: Option<std::borrow::Cow<'a, [bool]>>,
    /// Queries that some model may take, ascending; `None` when that is all of them.
    pub(crate) routable: Option<Vec<u32>>,
    /// G.
    pub(crate) groups: usize,
    /// The column of the arrays that each model stands in; `None`: its own ([`Equal`]).
    pub(crate) columns: Option<&'a [u16]>,
}

impl<'a> Problem<'a> {
    /// Checks the inputs.
    ///
    /// # Errors
    /// When a shape, a value or a combination is wrong; the message names the argument, what was got and what was
    /// wanted.
    pub fn new(input: Inputs<'a>) -> Result<Self, ProblemError> {
        check::shapes(&input)?;
        check::scalars(&input)?;
        check::pairs(&input)?;
        let (usable, routable) = check::usable(&input)?;
        let groups = input.group_min_quality.map(<[f64]>::len).or(input.group_budget.map(<[f64]>::len)).unwrap_or(0);
        Ok(Self { input, usable, routable, groups, columns: None })
    }

    /// N, the number of queries.
    #[must_use]
    pub fn queries(&self) -> usize {
        self.input.queries
    }

    /// M, the number of models.
    #[must_use]
    pub fn models(&self) -> usize {
        self.columns.map_or(self.input.models, <[u16]>::len)
    }

    /// What is asked for.
    #[must_use]
    pub fn goal(&self) -> Goal {
        self.input.goal
    }

    /// Entries of a row of the arrays.
    #[inline]
    pub(crate) fn width(&self) -> usize {
        self.input.models
    }

    /// The column of the arrays that a model stands in.
    #[inline(always)]
    pub(crate) fn column(&self, model: usize) -> usize {
        self.columns.map_or(model, |columns| usize::from(columns[model]))
    }

    /// The place of a pair in the arrays.
    #[inline(always)]
    pub(crate) fn at(&self, query: usize, model: usize) -> usize {
        query * self.width() + self.column(model)
    }

    #[inline]
    pub(crate) fn may(&self, query: usize, model: usize) -> bool {
        self.usable.as_ref().is_none_or(|mask| mask[self.at(query, model)])
    }

    #[inline]
    pub(crate) fn cost(&self, query: usize, model: usize) -> f64 {
        self.input.cost.at(self.at(query, model))
    }

    #[inline]
    pub(crate) fn quality(&self, query: usize, model: usize) -> f64 {
        self.input.quality.at(self.at(query, model))
    }

    #[inline]
    pub(crate) fn load(&self, resource: usize, query: usize, model: usize) -> f64 {
        let size = self.input.queries * self.width();
        self.input.load.as_ref().map_or(1.0, |load| load.at(resource * size + self.at(query, model)))
    }

    /// The loads of one resource, when they are not one per query.
    pub(crate) fn loads(&self, resource: usize) -> Option<Matrix<'a>> {
        let size = self.input.queries * self.width();
        self.input.load.map(|load| load.part(resource * size..(resource + 1) * size))
    }

    /// Never -0, by which a share of it would be minus infinity.
    #[inline]
    pub(crate) fn capacity(&self, resource: usize, model: usize) -> f64 {
        self.input.capacity.map_or(f64::INFINITY, |capacity| capacity[resource * self.models() + model] + 0.0)
    }

    /// The capacity as far as it can be used: whole requests when every query is one.
    #[inline]
    pub(crate) fn whole_capacity(&self, resource: usize, model: usize) -> f64 {
        let capacity = self.capacity(resource, model);
        if self.input.load.is_none() { capacity.floor() } else { capacity }
    }

    /// The group's own quality floor, when it has one.
    pub(crate) fn group_floor(&self, group: usize) -> Option<f64> {
        self.input.group_min_quality.map(|floors| floors[group]).filter(|floor| !floor.is_nan())
    }

    /// The group's own budget, when it has one.
    pub(crate) fn group_budget(&self, group: usize) -> Option<f64> {
        self.input.group_budget.map(|budgets| budgets[group]).filter(|budget| budget.is_finite())
    }
}
