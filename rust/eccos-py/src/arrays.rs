//! Borrows what Python passes. The names of the fields are the keys of the two mappings.

use std::time::Duration;

use bytemuck::checked::try_cast_slice;
use eccos_core::{Criterion, Duals, Goal, Inputs, Matrix, Pooled, Priced, SideRow, Unroutable};
use numpy::{Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::problem_error;

/// A shared borrow of a C-contiguous array of any rank.
pub struct Array<'py, T: Element>(PyReadonlyArrayDyn<'py, T>);

impl<'py, T: Element> FromPyObject<'_, 'py> for Array<'py, T> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let refused = |error: &dyn std::fmt::Display| PyValueError::new_err(error.to_string());
        let array = object.cast::<PyArrayDyn<T>>()?.try_readonly().map_err(|error| refused(&error))?;
        array.as_slice().map_err(|error| refused(&error))?;
        Ok(Self(array))
    }
}

impl<T: Element> Array<'_, T> {
    pub fn slice(&self) -> &[T] {
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
            Self::Single(array) => Matrix::F32(array.slice()),
            Self::Double(array) => Matrix::F64(array.slice()),
        }
    }
}

/// A side row: figures, mask of the queries, at least, mean, limit.
type Row<'py> = (Real<'py>, Option<Array<'py, u8>>, bool, bool, f64);

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
    rows: Vec<Row<'py>>,
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

impl Arrays<'_> {
    /// The shared capacities, for `inputs`.
    pub fn pools(&self) -> PyResult<Vec<Pooled<'_>>> {
        let pools = self.pools.iter().map(|(models, resource, capacity)| {
            Ok(Pooled { models: mask("pools", models)?, resource: *resource, capacity: *capacity })
        });
        pools.collect()
    }

    /// The priced loads, for `inputs`.
    pub fn priced(&self) -> PyResult<Vec<Priced<'_>>> {
        let priced = self.priced.iter().map(|(models, resource, below, level, price)| {
            let models = mask("priced", models)?;
            Ok(Priced { models, resource: *resource, below: *below, level: *level, price: *price })
        });
        priced.collect()
    }

    /// The side rows, for `inputs`.
    pub fn rows(&self) -> PyResult<Vec<SideRow<'_>>> {
        let rows = self.rows.iter().map(|(values, members, at_least, mean, limit)| {
            let members = members.as_ref().map(|members| mask("rows", members)).transpose()?;
            Ok(SideRow { values: values.matrix(), members, at_least: *at_least, mean: *mean, limit: *limit })
        });
        rows.collect()
    }

    /// The same, for the core. Nothing is copied.
    pub fn inputs<'a>(
        &'a self,
        pools: &'a [Pooled<'a>],
        rows: &'a [SideRow<'a>],
        priced: &'a [Priced<'a>],
    ) -> PyResult<Inputs<'a>> {
        let goal = match (self.goal.0.as_str(), self.goal.1) {
            ("min_quality", min) => Goal::Quality { min },
            ("budget", max) => Goal::Budget { max },
            ("quality_value", value) => Goal::Price { value },
            (name, _) => {
                return Err(problem_error(format!("goal is {name:?}, wanted min_quality, budget or quality_value")));
            }
        };
        let allowed = self.allowed.as_ref().map(|allowed| mask("allowed", allowed)).transpose()?;
        let (queries, models, resources) = self.shape;
        Ok(Inputs {
            queries,
            models,
            cost: self.cost.matrix(),
            quality: self.quality.matrix(),
            goal,
            resources,
            load: self.load.as_ref().map(Real::matrix),
            capacity: self.capacity.as_ref().map(Array::slice),
            pools,
            rows,
            priced,
            allowed,
            query_floor: self.query_floor.as_ref().map(Array::slice),
            priority: self.priority.as_ref().map(Array::slice),
            group: self.group.as_ref().map(Array::slice),
            group_min_quality: self.group_min_quality.as_ref().map(Array::slice),
            group_budget: self.group_budget.as_ref().map(Array::slice),
            unroutable: if self.defer_unroutable { Unroutable::Defer } else { Unroutable::Refuse },
        })
    }
}

fn mask<'a>(argument: &str, bytes: &'a Array<'_, u8>) -> PyResult<&'a [bool]> {
    let refused = |_| problem_error(format!("{argument} holds a byte other than 0 and 1, wanted booleans"));
    try_cast_slice(bytes.slice()).map_err(refused)
}

/// How to solve it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Effort<'py> {
    pub tolerance: f64,
    time_limit: Option<f64>,
    pub node_limit: Option<usize>,
    pub threads: Option<usize>,
    warm_start: Option<(String, f64, [Array<'py, f64>; 6])>,
}

impl Effort<'_> {
    pub fn time_limit(&self) -> PyResult<Option<Duration>> {
        let limit = self.time_limit.map(Duration::try_from_secs_f64).transpose();
        limit.map_err(|error| problem_error(format!("time_limit: {error}")))
    }

    pub fn duals(&self) -> Option<Duals> {
        let (criterion, requirement, prices) = self.warm_start.as_ref()?;
        let criterion = match criterion.as_str() {
            "cost" => Criterion::Cost,
            "quality" => Criterion::Quality,
            _ => Criterion::Value(*requirement),
        };
        let [capacity, pool, group_quality, group_budget, row, priced] =
            prices.each_ref().map(|price| price.slice().to_vec());
        Some(Duals { criterion, requirement: *requirement, capacity, pool, group_quality, group_budget, row, priced })
    }
}
