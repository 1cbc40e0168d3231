//! Heads and neighbours to forecasts in one pass per query: the fast twin of `predict/labels.py` and
//! `predict/calibration.py`, which say the same in numpy. In single precision and in the same order as there.

use serde::Deserialize;

use crate::ShapeError;

/// Columns of the packed labels, M wide each: success, whether known; ln tokens, its square, whether known.
const PARTS: usize = 5;

/// How labels of neighbours are shrunk towards the priors; vectors have one entry per model.
#[derive(Debug, Clone, Deserialize)]
pub struct Shrinkage {
    /// Weight of the prior for success, in neighbours at the best similarity.
    pub prior_rows: f32,
    /// The same for lengths.
    pub length_prior_rows: f32,
    /// Success without any neighbour.
    pub prior_success: Vec<f32>,
    /// Mean of ln(1 + tokens) without any neighbour.
    pub prior_length_mean: Vec<f32>,
    /// Standard deviation of ln(1 + tokens) without any neighbour.
    pub prior_length_std: Vec<f32>,
}

/// How scores become forecasts, shrinkage far from the known queries included; see `predict/calibration.py` for
/// the formula. Vectors have one entry per model.
#[derive(Debug, Clone, Deserialize)]
pub struct Calibration {
    /// Share of the heads in the log odds of success; the neighbours have the rest.
    pub success_weight: f32,
    /// The same for lengths.
    pub length_weight: f32,
    /// Added to the calibrated log odds.
    pub intercept: Vec<f32>,
    /// Slope of the mean over the models.
    pub common_slope: Vec<f32>,
    /// Slope of the deviation from that mean.
    pub deviation_slope: Vec<f32>,
    /// Log odds to shrink towards.
    pub prior_logit: Vec<f32>,
    /// Mean log length to shrink towards.
    pub prior_length: Vec<f32>,
    /// Factor on expected tokens.
    pub length_factor: Vec<f32>,
    /// Factor on the standard deviation of log lengths.
    pub length_std_scale: Vec<f32>,
    /// Share of p (1 - p) that is the variance of the forecast.
    pub residual_share: Vec<f32>,
    /// Similarity up to which everything is shrunk as far as the floors.
    pub low: f32,
    /// Similarity from which nothing is shrunk.
    pub high: f32,
    /// What stays of the common part at low similarity.
    pub common_floor: f32,
    /// What stays of the deviations at low similarity.
    pub deviation_floor: f32,
    /// What stays of the lengths at low similarity.
    pub length_floor: f32,
    /// Similarities at which nothing and everything may be kept, whatever the floors.
    pub back_off: [f32; 2],
    /// Similarities at which a query is unlike, half like and like known ground.
    pub known_ground: [f32; 3],
    /// Standard deviation of the log odds that all models share on traffic unlike known ground.
    pub away_level_std: f32,
    /// The same of ln(1 + tokens).
    pub away_length_std: f32,
}

impl Calibration {
    /// `kept_share` and 1 - `familiarity` of `predict/familiarity.py`.
    fn ground(&self, similarity: f32) -> (f32, f32) {
        if similarity.is_nan() {
            return (1.0, 0.0);
        }
        let [low, high] = self.back_off;
        let kept = ((similarity - low) / (high - low)).clamp(0.0, 1.0);
        let [unlike, half, like] = self.known_ground;
        let familiar = if similarity < half {
            0.5 * (similarity - unlike) / (half - unlike)
        } else {
            0.5 + 0.5 * (similarity - half) / (like - half)
        };
        (kept, 1.0 - familiar.clamp(0.0, 1.0))
    }
}

/// Outputs of the heads for N queries, each (N, M).
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a> {
    /// Log odds of success.
    pub logit: &'a [f32],
    /// Mean of ln(1 + tokens).
    pub mean: &'a [f32],
    /// Standard deviation of ln(1 + tokens).
    pub std: &'a [f32],
}

/// What the neighbours of N queries say: see [`crate::neighbour_sums`].
#[derive(Debug, Clone, Copy)]
pub struct Neighbours<'a> {
    /// Sums of packed labels, (N, 5 M).
    pub sums: &'a [f32],
    /// Similarity of the nearest, (N,); NaN where it is not known, and nothing is shrunk then.
    pub best: &'a [f32],
}

/// Forecasts for N queries, each (N, M).
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Probability of success.
    pub quality: Vec<f32>,
    /// Expected output tokens, 1 or more.
    pub tokens: Vec<f32>,
    /// Standard deviation of `quality`.
    pub quality_std: Vec<f32>,
    /// Standard deviation of ln(1 + tokens).
    pub log_tokens_std: Vec<f32>,
}

/// Log odds of success, and mean and standard deviation of ln(1 + tokens), of one query and one model.
#[derive(Clone, Copy, Default)]
struct Score {
    logit: f32,
    mean: f32,
    std: f32,
}

/// Blends heads and neighbours, calibrates, and shrinks what is far from everything known.
#[derive(Debug, Clone)]
pub struct Forecaster {
    models: usize,
    calibration: Calibration,
    shrinkage: Option<Shrinkage>,
}

impl Forecaster {
    /// Checks that every vector has one entry per model.
    ///
    /// # Errors
    ///
    /// If one has not, or there is no model.
    pub fn new(calibration: Calibration, shrinkage: Option<Shrinkage>) -> Result<Self, ShapeError> {
        let models = calibration.intercept.len();
        let c = &calibration;
        let mut vectors = vec![&c.common_slope, &c.deviation_slope, &c.prior_logit, &c.prior_length];
        vectors.extend([&c.length_factor, &c.length_std_scale, &c.residual_share]);
        if let Some(s) = &shrinkage {
            vectors.extend([&s.prior_success, &s.prior_length_mean, &s.prior_length_std]);
        }
        if models == 0 || vectors.iter().any(|vector| vector.len() != models) {
            return Err(ShapeError::new("the shape of the calibration does not fit"));
        }
        Ok(Self { models, calibration, shrinkage })
    }

    /// Number of models M.
    #[must_use]
    pub const fn models(&self) -> usize {
        self.models
    }

    /// Makes forecasts of what the heads say, of what the neighbours say, or of both.
    ///
    /// # Errors
    ///
    /// If shapes do not fit, or neighbours are given without the settings to shrink them.
    pub fn forecast(&self, heads: Option<Heads<'_>>, near: Option<Neighbours<'_>>) -> Result<Forecast, ShapeError> {
        let m = self.models;
        let rows = match (&heads, &near) {
            (Some(heads), _) => heads.logit.len() / m,
            (None, Some(near)) => near.best.len(),
            (None, None) => return Err(ShapeError::new("the shape of nothing does not fit")),
        };
        let heads_fit =
            heads.is_none_or(|parts| [parts.logit, parts.mean, parts.std].iter().all(|p| p.len() == rows * m));
        let near_fits = near.is_none_or(|parts| {
            parts.sums.len() == rows * PARTS * m && parts.best.len() == rows && self.shrinkage.is_some()
        });
        if !heads_fit || !near_fits {
            return Err(ShapeError::new("the shape of the heads or the neighbours does not fit"));
        }
        let mut made = [(); 4].map(|()| vec![0.0; rows * m]);
        let mut scores = vec![Score::default(); m];
        for row in 0..rows {
            for (j, score) in scores.iter_mut().enumerate() {
                let at = row * m + j;
                let head =
                    heads.map(|parts| Score { logit: parts.logit[at], mean: parts.mean[at], std: parts.std[at] });
                let around = near
                    .zip(self.shrinkage.as_ref())
                    .map(|(near, shrinkage)| self.around(&near.sums[row * PARTS * m..][..PARTS * m], shrinkage, j));
                *score = self.blend(head, around);
            }
            let similarity = near.map_or(f32::NAN, |near| near.best[row]);
            self.calibrate(&scores, similarity, made.each_mut().map(|part| &mut part[row * m..][..m]));
        }
        let [quality, tokens, quality_std, log_tokens_std] = made;
        Ok(Forecast { quality, tokens, quality_std, log_tokens_std })
    }

    /// `shrink` of `predict/labels.py`, in the heads' units.
    fn around(&self, sums: &[f32], s: &Shrinkage, j: usize) -> Score {
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
        let (most, unknown) = c.ground(similarity);
        let (level, length_level) = (c.away_level_std * unknown, c.away_length_std * unknown);
        let [shared_kept, own_kept, length_kept] =
            [c.common_floor, c.deviation_floor, c.length_floor].map(|floor| most.min(floor + (1.0 - floor) * ramp));
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
            let spread = c.length_std_scale[j] * (score.std * score.std + lost).sqrt();
            let expected = (mean + 0.5 * (spread * spread)).min(20.0).exp_m1() * c.length_factor[j];
            tokens[j] = expected.max(1.0);
            log_std[j] = (spread * spread + length_level * length_level).sqrt();
            let coin = quality[j] * (1.0 - quality[j]);
            let variance = c.residual_share[j] * coin + (level * coin) * (level * coin);
            quality_std[j] = variance.min(coin).sqrt();
        }
    }
}
