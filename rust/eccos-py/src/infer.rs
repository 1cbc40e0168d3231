//! The classes of `eccos_infer`: settings come as mappings whose keys are the names of their fields.

use std::sync::RwLock;

use eccos_infer::{Heads, Neighbours};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::arrays::Array;
use crate::guard::detached;

type Matrix<'py, T> = Bound<'py, PyArray2<T>>;

fn refused(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn matrix<T: numpy::Element>(py: Python<'_>, values: Vec<T>, width: usize) -> PyResult<Matrix<'_, T>> {
    let rows = values.len().checked_div(width).unwrap_or(0);
    values.into_pyarray(py).reshape([rows, width])
}

/// Adds up the packed labels of neighbours: (N, C), and the best similarity, (N,).
#[pyfunction]
#[pyo3(signature = (packed, similarity, index, shape, temperature, /))]
#[allow(clippy::needless_pass_by_value)] // what is extracted from Python is owned
pub fn neighbour_sums<'py>(
    py: Python<'py>,
    packed: Array<'py, f32>,
    similarity: Array<'py, f32>,
    index: Array<'py, i64>,
    shape: (usize, usize, usize),
    temperature: f32,
) -> PyResult<(Matrix<'py, f32>, Bound<'py, PyArray1<f32>>)> {
    let (labels, near, index) = (packed.slice(), similarity.slice(), index.slice());
    let made = detached(py, || eccos_infer::neighbour_sums(labels, near, index, shape, temperature))?;
    let made = made.map_err(refused)?;
    Ok((matrix(py, made.sums, shape.2)?, made.best.into_pyarray(py)))
}

/// Blends, calibrates and shrinks.
#[pyclass(frozen, module = "eccos_rs._core")]
pub struct Forecaster(eccos_infer::Forecaster);

#[pymethods]
impl Forecaster {
    #[new]
    #[pyo3(signature = (calibration, shrinkage, /))]
    fn new(calibration: &Bound<'_, PyAny>, shrinkage: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (calibration, shrinkage) = (pythonize::depythonize(calibration)?, pythonize::depythonize(shrinkage)?);
        eccos_infer::Forecaster::new(calibration, shrinkage).map(Self).map_err(refused)
    }

    /// Forecasts of what the heads say (three of (N, M)), of the neighbours' sums and best similarity, or of both.
    #[pyo3(signature = (heads, neighbours, /))]
    #[allow(clippy::needless_pass_by_value)]
    fn forecast<'py>(
        &self,
        py: Python<'py>,
        heads: Option<[Array<'py, f32>; 3]>,
        neighbours: Option<[Array<'py, f32>; 2]>,
    ) -> PyResult<[Matrix<'py, f32>; 4]> {
        let heads = heads.as_ref().map(|parts| parts.each_ref().map(Array::slice));
        let heads = heads.map(|[logit, mean, std]| Heads { logit, mean, std });
        let near = neighbours.as_ref().map(|parts| parts.each_ref().map(Array::slice));
        let near = near.map(|[sums, best]| Neighbours { sums, best });
        let made = detached(py, || self.0.forecast(heads, near))?.map_err(refused)?;
        let [one, two, three, four] = [made.quality, made.tokens, made.quality_std, made.log_tokens_std]
            .map(|part| matrix(py, part, self.0.models()));
        Ok([one?, two?, three?, four?])
    }
}

/// Word pieces of plain texts.
#[pyclass(frozen, module = "eccos_rs._core")]
pub struct WordPieces(eccos_infer::WordPieces);

#[pymethods]
impl WordPieces {
    #[new]
    #[pyo3(signature = (vocabulary, /))]
    fn new(vocabulary: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self(eccos_infer::WordPieces::new(pythonize::depythonize(vocabulary)?)))
    }

    /// Ids of each text, None where it is not plain, and the number of its pieces without special ones.
    #[pyo3(signature = (texts, limit, threads, /))]
    #[allow(clippy::needless_pass_by_value, clippy::type_complexity)]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<Bound<'py, PyString>>,
        limit: usize,
        threads: usize,
    ) -> PyResult<(Vec<Option<Bound<'py, PyArray1<i64>>>>, Vec<usize>)> {
        // A lone surrogate is no UTF-8, and no plain text.
        let texts: Vec<&str> = texts.iter().map(|text| text.to_str().unwrap_or("\0")).collect();
        let made = detached(py, || self.0.encode(&texts, limit, threads))?;
        let pieces = made.iter().map(|text| text.as_ref().map_or(0, |(_, pieces)| *pieces)).collect();
        Ok((made.into_iter().map(|text| text.map(|(ids, _)| ids.into_pyarray(py))).collect(), pieces))
    }
}

/// Exact search among vectors in half precision.
#[pyclass(frozen, module = "eccos_rs._core")]
pub struct Vectors(RwLock<eccos_infer::Vectors>);

impl Vectors {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, eccos_infer::Vectors> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[pymethods]
impl Vectors {
    #[new]
    #[pyo3(signature = (vectors, dimension, /))]
    #[allow(clippy::needless_pass_by_value)]
    fn new(py: Python<'_>, vectors: Array<'_, f32>, dimension: usize) -> PyResult<Self> {
        let vectors = vectors.slice();
        let made = detached(py, || eccos_infer::Vectors::new(vectors, dimension))?;
        made.map(|made| Self(RwLock::new(made))).map_err(refused)
    }

    fn __len__(&self) -> usize {
        self.read().len()
    }

    /// Similarities and rows, each (N, K), nearest first.
    #[pyo3(signature = (queries, k, threads, /))]
    #[allow(clippy::needless_pass_by_value)]
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: Array<'py, f32>,
        k: usize,
        threads: usize,
    ) -> PyResult<(Matrix<'py, f32>, Matrix<'py, i64>)> {
        let queries = queries.slice();
        let found = detached(py, || self.read().search(queries, k, threads))?.map_err(refused)?;
        Ok((matrix(py, found.similarity, k)?, matrix(py, found.row, k)?))
    }

    /// Sets a row that is there, or adds the next.
    #[pyo3(signature = (row, vector, /))]
    #[allow(clippy::needless_pass_by_value)]
    fn put(&self, py: Python<'_>, row: usize, vector: Array<'_, f32>) -> PyResult<()> {
        let vector = vector.slice();
        let write = || self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner).put(row, vector);
        detached(py, write)?.map_err(refused)
    }

    /// All vectors in single precision, (n, D).
    fn to_array<'py>(&self, py: Python<'py>) -> PyResult<Matrix<'py, f32>> {
        let (values, width) = detached(py, || (self.read().to_vec(), self.read().dimension()))?;
        matrix(py, values, width)
    }
}
