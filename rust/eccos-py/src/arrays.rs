//! Borrows what Python passes. The names of the fields are the keys of the two mappings.

use std::ops::Deref;

use eccos_core::{
    Criterion, Duals, Goal, Inputs, Matrix, Pooled, Priced, ProblemError, SideRow, Unroutable, booleans,
};
use numpy::{Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A shared borrow of a C-contiguous array of any rank.
pub struct Array<'py, T: Element>(PyReadonlyArrayDyn<'py, T>);

impl<'py, T: Element> FromPyObject<'_, 'py> for Array<'py, T> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let array = object.cast::<PyArrayDyn<T>>()?.try_readonly();
        let array = array.map_err(|error| PyValueError::new_err(error.to_string()))?;
        array.as_slice().map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self(array))
    }
}

impl<T: Element> Deref for Array<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_slice().expect("extract has seen that it is contiguous")
    }
}

/// Real numbers of either precision.
#[derive(FromPyObject)]
pub enum Real<'py> {
    Single(Array<'py, f32>),
    Double(Array<'py, f64>),
}

impl Real<'_> {
    fn matrix(&self) -> Matrix<'_> {
        match self {
            Self::Single(array) => Matrix::F32(array),
            Self::Double(array) => Matrix::F64(array),
        }
    }
}

/// The problem, as `eccos_rs.assign` takes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Arrays<'py> {
    shape: (usize, usize, usize),
    cost: Real<'py>,
    quality: Real<'py>,
    goal: (String, f64),
    load: Option<Real<'py>>,
    capacity: Option<Array<'py, f64>>,
    /// Mask of the models, resource, capacity.
    pools: Vec<(Array<'py, u8>, usize, f64)>,
    /// Figures, mask of the queries, at least, mean, limit.
    rows: Vec<(Real<'py>, Option<Array<'py, u8>>, bool, bool, f64)>,
    /// Mask of the models, resource, below, level, price.
    priced: Vec<(Array<'py, u8>, usize, bool, f64, f64)>,
    allowed: Option<Array<'py, u8>>,
    query_floor: Option<Array<'py, f64>>,
    priority: Option<Array<'py, i64>>,
    group: Option<Array<'py, u32>>,
    group_min_quality: Option<Array<'py, f64>>,
    group_budget: Option<Array<'py, f64>>,
    defer_unroutable: bool,
}

/// The lists of limits as the core takes them.
type Limits<'a> = (Vec<Pooled<'a>>, Vec<SideRow<'a>>, Vec<Priced<'a>>);

impl Arrays<'_> {
    /// The lists of limits, for `inputs`.
    pub fn limits(&self) -> Result<Limits<'_>, ProblemError> {
        let pools = self.pools.iter().map(|(models, resource, capacity)| {
            Ok(Pooled { models: booleans("pools", models)?, resource: *resource, capacity: *capacity })
        });
        let rows = self.rows.iter().map(|(values, members, at_least, mean, limit)| {
            let members = members.as_deref().map(|members| booleans("rows", members)).transpose()?;
            Ok(SideRow { values: values.matrix(), members, at_least: *at_least, mean: *mean, limit: *limit })
        });
        let priced = self.priced.iter().map(|(models, resource, below, level, price)| {
            let models = booleans("priced", models)?;
            Ok(Priced { models, resource: *resource, below: *below, level: *level, price: *price })
        });
        Ok((pools.collect::<Result<_, _>>()?, rows.collect::<Result<_, _>>()?, priced.collect::<Result<_, _>>()?))
    }

    /// The same, for the core. Nothing is copied.
    pub fn inputs<'a>(&'a self, (pools, rows, priced): &'a Limits<'a>) -> Result<Inputs<'a>, ProblemError> {
        let goal = Goal::named(&self.goal.0, self.goal.1)?;
        let (queries, models, resources) = self.shape;
        Ok(Inputs {
            resources,
            load: self.load.as_ref().map(Real::matrix),
            capacity: self.capacity.as_deref(),
            pools,
            rows,
            priced,
            allowed: self.allowed.as_deref().map(|allowed| booleans("allowed", allowed)).transpose()?,
            query_floor: self.query_floor.as_deref(),
            priority: self.priority.as_deref(),
            group: self.group.as_deref(),
            group_min_quality: self.group_min_quality.as_deref(),
            group_budget: self.group_budget.as_deref(),
            unroutable: if self.defer_unroutable { Unroutable::Defer } else { Unroutable::Refuse },
            ..Inputs::new(queries, models, self.cost.matrix(), self.quality.matrix(), goal)
        })
    }
}

/// How to solve it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Effort<'py> {
    pub tolerance: f64,
    pub time_limit: Option<f64>,
    pub node_limit: Option<usize>,
    pub threads: Option<usize>,
    warm_start: Option<(String, f64, [Array<'py, f64>; 6])>,
}

impl Effort<'_> {
    /// The multipliers to start from.
    pub fn duals(&self) -> Option<Duals> {
        let (criterion, requirement, prices) = self.warm_start.as_ref()?;
        let prices = prices.each_ref().map(|price| price.to_vec());
        Some(Duals::from_parts(Criterion::named(criterion, *requirement), *requirement, prices))
    }
}
