//! The classes of `eccos_infer`: settings come as mappings whose keys are the names of their fields.

use eccos_infer::{Heads, Neighbours, ShapeError, SharedVectors};
use numpy::{Element, IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pythonize::depythonize;

use crate::arrays::Array;
use crate::detached;

type Matrix<'py, T> = Bound<'py, PyArray2<T>>;

/// Runs `work` without the interpreter; arrays that do not fit each other are a `ValueError`.
fn fitting<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T, ShapeError> + Send) -> PyResult<T> {
    detached(py, work)?.map_err(|error| PyValueError::new_err(error.to_string()))
}

fn matrix<T: Element>(py: Python<'_>, values: Vec<T>, width: usize) -> PyResult<Matrix<'_, T>> {
    let rows = values.len().checked_div(width).unwrap_or(0);
    values.into_pyarray(py).reshape([rows, width])
}

/// Adds up the packed labels of neighbours: (N, C), and the best similarity, (N,).
#[pyfunction]
pub fn neighbour_sums<'py>(
    py: Python<'py>,
    packed: Array<'py, f32>,
    similarity: Array<'py, f32>,
    index: Array<'py, i64>,
    shape: (usize, usize, usize),
    temperature: f32,
) -> PyResult<(Matrix<'py, f32>, Bound<'py, PyArray1<f32>>)> {
    let (labels, near, index): (&[_], &[_], &[_]) = (&packed, &similarity, &index);
    let made = fitting(py, || eccos_infer::neighbour_sums(labels, near, index, shape, temperature))?;
    Ok((matrix(py, made.sums, shape.2)?, made.best.into_pyarray(py)))
}

/// Blends, calibrates and shrinks.
#[pyclass(frozen, module = "eccos_rs._core")]
pub struct Forecaster(eccos_infer::Forecaster);

#[pymethods]
impl Forecaster {
    #[new]
    fn new(py: Python<'_>, calibration: &Bound<'_, PyAny>, shrinkage: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (calibration, shrinkage) = (depythonize(calibration)?, depythonize(shrinkage)?);
        fitting(py, || eccos_infer::Forecaster::new(calibration, shrinkage)).map(Self)
    }

    /// Forecasts of what the heads say (three of (N, M)), of the neighbours' sums and best similarity, or of both.
    fn forecast<'py>(
        &self,
        py: Python<'py>,
        heads: Option<[Array<'py, f32>; 3]>,
        neighbours: Option<[Array<'py, f32>; 2]>,
    ) -> PyResult<[Matrix<'py, f32>; 4]> {
        let heads = heads.as_ref().map(|[logit, mean, std]| Heads { logit, mean, std });
        let near = neighbours.as_ref().map(|[sums, best]| Neighbours { sums, best });
        let made = fitting(py, || self.0.forecast(heads, near))?;
        let parts = [made.quality, made.tokens, made.quality_std, made.log_tokens_std];
        let [one, two, three, four] = parts.map(|part| matrix(py, part, self.0.models()));
        Ok([one?, two?, three?, four?])
    }
}

/// Word pieces of plain texts.
#[pyclass(frozen, module = "eccos_rs._core")]
pub struct WordPieces(eccos_infer::WordPieces);

#[pymethods]
impl WordPieces {
    #[new]
    fn new(vocabulary: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self(eccos_infer::WordPieces::new(depythonize(vocabulary)?)))
    }

    /// For each text its ids and the number of its pieces without special ones; None where it is not plain.
    fn encode<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<Bound<'py, PyString>>,
        limit: usize,
        threads: usize,
    ) -> PyResult<Vec<Option<(Bound<'py, PyArray1<i64>>, usize)>>> {
        // A lone surrogate is no UTF-8, and no plain text.
        let texts: Vec<&str> = texts.iter().map(|text| text.to_str().unwrap_or("\0")).collect();
        let made = detached(py, || self.0.encode(&texts, limit, threads))?;
        Ok(made.into_iter().map(|text| text.map(|(ids, pieces)| (ids.into_pyarray(py), pieces))).collect())
    }
}

/// Exact search among vectors in half precision.
#[pyclass(frozen, module = "eccos_rs._core")]
pub struct Vectors(SharedVectors);

#[pymethods]
impl Vectors {
    #[new]
    fn new(py: Python<'_>, vectors: Array<'_, f32>, dimension: usize) -> PyResult<Self> {
        let vectors: &[_] = &vectors;
        fitting(py, || SharedVectors::new(vectors, dimension)).map(Self)
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Similarities and rows, each (N, K), nearest first.
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: Array<'py, f32>,
        k: usize,
        threads: usize,
    ) -> PyResult<(Matrix<'py, f32>, Matrix<'py, i64>)> {
        let queries: &[_] = &queries;
        let found = fitting(py, || self.0.search(queries, k, threads))?;
        Ok((matrix(py, found.similarity, k)?, matrix(py, found.row, k)?))
    }

    /// Sets a row that is there, or adds the next.
    fn put(&self, py: Python<'_>, row: usize, vector: Array<'_, f32>) -> PyResult<()> {
        let vector: &[_] = &vector;
        fitting(py, || self.0.put(row, vector))
    }

    /// All vectors in single precision, (n, D).
    fn to_array<'py>(&self, py: Python<'py>) -> PyResult<Matrix<'py, f32>> {
        let (values, width) = detached(py, || self.0.to_vec())?;
        matrix(py, values, width)
    }
}
