//! Heads and neighbours to forecasts in one pass a query: the fast twin of `predict/labels.py` and
//! `predict/calibration.py`, which say the same in numpy. In single precision and in the same order as there.

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::Array;

type Matrix<'py> = Bound<'py, PyArray2<f32>>;

/// Columns of the packed labels, M wide each: success, whether known; ln tokens, its square, whether known.
const PARTS: usize = 5;

fn wrong_shape(what: &str) -> PyErr {
    PyValueError::new_err(format!("the shape of {what} does not fit"))
}

fn matrix(py: Python<'_>, values: Vec<f32>, width: usize) -> PyResult<Matrix<'_>> {
    let rows = values.len() / width;
    values.into_pyarray(py).reshape([rows, width])
}

/// Adds up the packed labels (n, C) of the neighbours (N, K), nearest first, each weighed by
/// exp((similarity - best) / temperature): (N, C), and the best similarity, (N,).
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
) -> PyResult<(Matrix<'py>, Bound<'py, PyArray1<f32>>)> {
    let (labels, near, index) = (packed.slice(), similarity.slice(), index.slice());
    let (queries, neighbours, width) = shape;
    let fits = neighbours > 0 && width > 0 && labels.len() % width == 0;
    if !fits || near.len() != queries * neighbours || index.len() != near.len() {
        return Err(wrong_shape("similarity, index or labels"));
    }
    let summed = py.detach(|| {
        let mut sums = vec![0.0; queries * width];
        let of_query = near.chunks_exact(neighbours).zip(index.chunks_exact(neighbours));
        for (sum, (near, index)) in sums.chunks_exact_mut(width).zip(of_query) {
            for (&similarity, &row) in near.iter().zip(index) {
                let start = usize::try_from(row).ok()?.checked_mul(width)?;
                let labels = labels.get(start..start.checked_add(width)?)?;
                let weight = ((similarity - near[0]) / temperature).exp();
                for (sum, label) in sum.iter_mut().zip(labels) {
                    *sum += weight * label;
                }
            }
        }
        Some((sums, near.iter().copied().step_by(neighbours).collect::<Vec<_>>()))
    });
    let (sums, best) = summed.ok_or_else(|| PyValueError::new_err("a neighbour is no row of the labels"))?;
    Ok((matrix(py, sums, width)?, best.into_pyarray(py)))
}

/// `NeighbourSettings` and the priors; the names of the fields are the keys of the mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Shrinkage {
    prior_rows: f32,
    length_prior_rows: f32,
    prior_success: Vec<f32>,
    prior_length_mean: Vec<f32>,
    prior_length_std: Vec<f32>,
}

/// `Calibration`, its fade laid flat; the names of the fields are the keys of the mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Calibration {
    success_weight: f32,
    length_weight: f32,
    intercept: Vec<f32>,
    common_slope: Vec<f32>,
    deviation_slope: Vec<f32>,
    prior_logit: Vec<f32>,
    prior_length: Vec<f32>,
    length_factor: Vec<f32>,
    length_std_scale: Vec<f32>,
    residual_share: Vec<f32>,
    low: f32,
    high: f32,
    common_floor: f32,
    deviation_floor: f32,
    length_floor: f32,
}

/// Log odds of success, and mean and spread of ln(1 + tokens), of one query and one model.
#[derive(Clone, Copy, Default)]
struct Score {
    logit: f32,
    mean: f32,
    std: f32,
}

/// Success, expected tokens, and the spread of each, (N, M).
type Forecasts<'py> = (Matrix<'py>, Matrix<'py>, Matrix<'py>, Matrix<'py>);

/// Blends, calibrates and fades; see `forecast`.
#[pyclass(frozen, module = "eccos_rs._core")]
pub struct Forecaster {
    models: usize,
    calibration: Calibration,
    shrinkage: Option<Shrinkage>,
}

#[pymethods]
impl Forecaster {
    #[new]
    #[pyo3(signature = (calibration, shrinkage, /))]
    fn new(calibration: Calibration, shrinkage: Option<Shrinkage>) -> PyResult<Self> {
        let models = calibration.intercept.len();
        let c = &calibration;
        let mut vectors = vec![&c.common_slope, &c.deviation_slope, &c.prior_logit, &c.prior_length];
        vectors.extend([&c.length_factor, &c.length_std_scale, &c.residual_share]);
        if let Some(s) = &shrinkage {
            vectors.extend([&s.prior_success, &s.prior_length_mean, &s.prior_length_std]);
        }
        if models == 0 || vectors.iter().any(|vector| vector.len() != models) {
            return Err(wrong_shape("the calibration"));
        }
        Ok(Self { models, calibration, shrinkage })
    }

    /// Makes forecasts of what the heads say (three of (N, M)), what the neighbours say (sums of packed labels,
    /// (N, 5 M), and the best similarity, (N,)), or both.
    #[pyo3(signature = (heads, neighbours, /))]
    #[allow(clippy::needless_pass_by_value)]
    fn forecast<'py>(
        &self,
        py: Python<'py>,
        heads: Option<[Array<'py, f32>; 3]>,
        neighbours: Option<[Array<'py, f32>; 2]>,
    ) -> PyResult<Forecasts<'py>> {
        let m = self.models;
        let heads = heads.as_ref().map(|parts| parts.each_ref().map(Array::slice));
        let near = neighbours.as_ref().map(|parts| parts.each_ref().map(Array::slice));
        let rows = match (heads, near) {
            (Some(parts), _) => parts[0].len() / m,
            (None, Some([_, best])) => best.len(),
            (None, None) => return Err(wrong_shape("nothing")),
        };
        if heads.is_some_and(|parts| parts.iter().any(|part| part.len() != rows * m))
            || near.is_some_and(|[sums, best]| sums.len() != rows * PARTS * m || best.len() != rows)
            || (near.is_some() && self.shrinkage.is_none())
        {
            return Err(wrong_shape("the heads or the neighbours"));
        }
        let made = py.detach(|| {
            let mut made = [(); 4].map(|()| vec![0.0; rows * m]);
            let mut scores = vec![Score::default(); m];
            for row in 0..rows {
                for (j, score) in scores.iter_mut().enumerate() {
                    let at = row * m + j;
                    let head =
                        heads.map(|[logit, mean, std]| Score { logit: logit[at], mean: mean[at], std: std[at] });
                    let around = near.map(|[sums, _]| self.around(&sums[row * PARTS * m..][..PARTS * m], j));
                    *score = self.blend(head, around);
                }
                let similarity = near.map_or(f32::NAN, |[_, best]| best[row]);
                self.calibrate(&scores, similarity, made.each_mut().map(|part| &mut part[row * m..][..m]));
            }
            made
        });
        let [quality, tokens, quality_std, log_std] = made.map(|part| matrix(py, part, m));
        Ok((quality?, tokens?, quality_std?, log_std?))
    }
}

impl Forecaster {
    /// `shrink` of `predict/labels.py`, in the heads' units.
    fn around(&self, sums: &[f32], j: usize) -> Score {
        let s = self.shrinkage.as_ref().expect("forecast has seen that it is there");
        let [success, seen, length, square, counted] = [0, 1, 2, 3, 4].map(|part| sums[part * self.models + j]);
        let (rows, mean, std) = (s.length_prior_rows, s.prior_length_mean[j], s.prior_length_std[j]);
        let p = (success + s.prior_rows * s.prior_success[j]) / (seen + s.prior_rows);
        let clipped = p.clamp(1e-4, 1.0 - 1e-4);
        let length = (length + rows * mean) / (counted + rows);
        let second = (square + rows * (std * std + mean * mean)) / (counted + rows);
        let spread = (second - length * length).max(1e-4).sqrt();
        Score { logit: (clipped / (1.0 - clipped)).ln(), mean: length, std: spread }
    }

    /// `blend` of `predict/calibration.py`; one source alone is taken as it is.
    fn blend(&self, head: Option<Score>, around: Option<Score>) -> Score {
        let (Some(head), Some(near)) = (head, around) else {
            return head.or(around).unwrap_or_default();
        };
        let (success, length) = (self.calibration.success_weight, self.calibration.length_weight);
        let other = 1.0 - length;
        Score {
            logit: success * head.logit + (1.0 - success) * near.logit,
            mean: length * head.mean + other * near.mean,
            std: (length * (head.std * head.std) + other * (near.std * near.std)).sqrt(),
        }
    }

    /// `Calibration.apply` for one query.
    fn calibrate(&self, scores: &[Score], similarity: f32, out: [&mut [f32]; 4]) {
        let c = &self.calibration;
        let models = scores.len() as f32;
        let ramp = ((similarity - c.low) / (c.high - c.low).max(1e-6)).clamp(0.0, 1.0);
        let ramp = if similarity.is_nan() { 1.0 } else { ramp };
        let [shared_kept, own_kept, length_kept] =
            [c.common_floor, c.deviation_floor, c.length_floor].map(|floor| floor + (1.0 - floor) * ramp);
        let common = scores.iter().map(|score| score.logit).sum::<f32>() / models;
        let off = |j: usize| {
            let parts = c.common_slope[j] * common + c.deviation_slope[j] * (scores[j].logit - common);
            c.intercept[j] + parts - c.prior_logit[j]
        };
        let shared = (0..scores.len()).map(off).sum::<f32>() / models;
        let [quality, tokens, quality_std, log_std] = out;
        for (j, score) in scores.iter().enumerate() {
            let logit = c.prior_logit[j] + shared_kept * shared + own_kept * (off(j) - shared);
            quality[j] = 0.5 * (1.0 + (0.5 * logit).tanh());
            let away = score.mean - c.prior_length[j];
            let mean = c.prior_length[j] + length_kept * away;
            let lost = (1.0 - length_kept * length_kept) * (away * away);
            log_std[j] = c.length_std_scale[j] * (score.std * score.std + lost).sqrt();
            let expected = (mean + 0.5 * (log_std[j] * log_std[j])).min(20.0).exp_m1() * c.length_factor[j];
            tokens[j] = expected.max(1.0);
            quality_std[j] = (c.residual_share[j] * quality[j] * (1.0 - quality[j])).sqrt();
        }
    }
}
