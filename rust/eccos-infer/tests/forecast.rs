//! Sums of labels and forecasts on cases that can be worked out by hand; the numpy twins are compared in Python.

use eccos_infer::{Calibration, Forecaster, Heads, Neighbours, Shrinkage, neighbour_sums};

/// A calibration of one model that leaves everything as it is.
fn plain() -> Calibration {
    Calibration {
        success_weight: 0.5,
        length_weight: 0.5,
        intercept: vec![0.0],
        common_slope: vec![1.0],
        deviation_slope: vec![1.0],
        prior_logit: vec![0.0],
        prior_length: vec![3.0],
        length_factor: vec![1.0],
        length_std_scale: vec![1.0],
        residual_share: vec![0.25],
        low: 0.2,
        high: 0.6,
        common_floor: 0.0,
        deviation_floor: 0.0,
        length_floor: 0.0,
        back_off: [0.3, 0.5],
        known_ground: [0.46, 0.5, 0.6],
        away_level_std: 0.9,
        away_length_std: 1.2,
    }
}

fn shrinkage() -> Shrinkage {
    Shrinkage {
        prior_rows: 1.0,
        length_prior_rows: 1.0,
        prior_success: vec![0.5],
        prior_length_mean: vec![3.0],
        prior_length_std: vec![1.0],
    }
}

fn near(one: f32, other: f32) {
    assert!((one - other).abs() < 1e-5 * other.abs().max(1.0), "got {one}, wanted {other}");
}

#[test]
fn labels_are_weighted_by_similarity() {
    let packed = [1.0, 10.0, 2.0, 20.0, 4.0, 40.0];
    let made = neighbour_sums(&packed, &[0.9, 0.8, 0.5, 0.5], &[2, 0, 1, 1], (2, 2, 2), 0.1).unwrap();
    let weight = (-1.0_f32).exp();
    near(made.sums[0], weight.mul_add(1.0, 4.0));
    near(made.sums[1], weight.mul_add(10.0, 40.0));
    assert_eq!(made.sums[2..], [4.0, 40.0]);
    assert_eq!(made.best, [0.9, 0.5]);
}

#[test]
fn heads_alone_are_calibrated() {
    let heads = Heads { logit: &[0.0], mean: &[2.0], std: &[0.0] };
    let made = Forecaster::new(plain(), None).unwrap().forecast(Some(heads), None).unwrap();
    near(made.quality[0], 0.5);
    near(made.tokens[0], 2.0_f32.exp_m1());
    near(made.quality_std[0], 0.25);
    near(made.log_tokens_std[0], 0.0);
}

#[test]
fn far_from_everything_known_only_the_prior_is_left() {
    let heads = Heads { logit: &[5.0], mean: &[9.0], std: &[0.0] };
    let forecaster = Forecaster::new(plain(), Some(shrinkage())).unwrap();
    // One neighbour: success 1, ln tokens 2.
    let sums = [1.0, 1.0, 2.0, 4.0, 1.0];
    let far = forecaster.forecast(Some(heads), Some(Neighbours { sums: &sums, best: &[0.1] })).unwrap();
    near(far.quality[0], 0.5);
    // The neighbours' spread and what was lost of the mean, then what foreign traffic leaves open as a whole.
    let spread = far.tokens[0].ln_1p() - 3.0;
    near(far.log_tokens_std[0], 2.0_f32.mul_add(spread, 1.2 * 1.2).sqrt());
    near(far.quality_std[0], 0.25_f32.mul_add(0.25, (0.9_f32 * 0.25).powi(2)).sqrt());
    let unknown = forecaster.forecast(Some(heads), Some(Neighbours { sums: &sums, best: &[f32::NAN] })).unwrap();
    let known = forecaster.forecast(Some(heads), Some(Neighbours { sums: &sums, best: &[0.9] })).unwrap();
    assert_eq!(unknown, known, "what has no similarity is not shrunk");
    // Half of the heads' log odds and half of the neighbours': p = (1 + 0.5) / 2.
    let logit = 0.5_f32.mul_add(5.0, 0.5 * (0.75_f32 / 0.25).ln());
    near(known.quality[0], 1.0 / (1.0 + (-logit).exp()));
}

#[test]
fn no_floor_keeps_what_is_far_from_known_ground() {
    let heads = Heads { logit: &[5.0], mean: &[4.0], std: &[0.0] };
    let floors = Calibration { common_floor: 1.0, deviation_floor: 1.0, length_floor: 1.0, ..plain() };
    let forecaster = Forecaster::new(floors, Some(shrinkage())).unwrap();
    let sums = [1.0, 1.0, 2.0, 4.0, 1.0];
    let at =
        |similarity| forecaster.forecast(Some(heads), Some(Neighbours { sums: &sums, best: &[similarity] })).unwrap();
    near(at(0.3).quality[0], 0.5);
    let logit = |p: f32| (p / (1.0 - p)).ln();
    near(logit(at(0.4).quality[0]), 0.5 * logit(at(0.9).quality[0]));
    assert_eq!(at(0.6), at(0.9));
    assert!(at(0.55).log_tokens_std[0] > at(0.6).log_tokens_std[0]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let fits = Forecaster::new(plain(), None).unwrap();
    let heads = Heads { logit: &[0.0], mean: &[2.0], std: &[] };
    assert!(fits.forecast(Some(heads), None).is_err());
    assert!(fits.forecast(None, None).is_err());
    let near = Neighbours { sums: &[0.0; 5], best: &[0.5] };
    assert!(fits.forecast(None, Some(near)).is_err(), "without settings to shrink them");
    assert!(Forecaster::new(Calibration { intercept: vec![], ..plain() }, None).is_err());
    assert!(Forecaster::new(Calibration { prior_logit: vec![0.0; 2], ..plain() }, None).is_err());
    for (index, shape) in [(2, (1, 1, 1)), (-1, (1, 1, 1)), (0, (2, 1, 1)), (0, (1, 0, 1)), (0, (1, 1, 0))] {
        assert!(neighbour_sums(&[0.0, 0.0], &[0.5], &[index], shape, 0.1).is_err());
    }
    assert_eq!(fits.models(), 1);
}
