"""The arithmetic of predicting, against slow twins, limits and planted truths."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_rs.domain.query import Query
from eccos_rs.errors import BundleError, InputError
from eccos_rs.predict import Prediction
from eccos_rs.predict.calibration import BackOff, Calibration, Scores, blend, expit, logit
from eccos_rs.predict.familiarity import AWAY_LENGTH_STD, AWAY_LEVEL_STD
from eccos_rs.predict.features import FEATURE_NAMES, summarise_tokens, token_feature_table
from eccos_rs.predict.logistic import fit_logistic
from eccos_rs.predict.neighbours import NeighbourSettings, estimate_from_neighbours
from eccos_rs.predict.onboarding import PredictorWithNewModels, fit_new_model

RNG = np.random.default_rng


def test_features_count_kinds_of_word_pieces():
    vocabulary = {"[CLS]": 0, "[SEP]": 1, "not": 2, "12": 3, "##ing": 4, "$": 5, "é": 6, "what": 7, "[": 8}
    table = token_feature_table(vocabulary)
    made = dict(zip(FEATURE_NAMES, summarise_tokens([[0, 2, 3, 3, 1]], table)[0], strict=True))
    assert made["log_length"] == pytest.approx(np.log(5))
    assert made["log_digit"] == pytest.approx(np.log(3))
    assert made["share_digit"] == pytest.approx(2 / 5)
    assert made["log_negation"] == pytest.approx(np.log(2))
    assert made["log_dollar"] == made["share_bracket"] == 0.0
    # Special pieces belong to no kind, a lone bracket does; an accent is not ASCII.
    kinds = [name.removeprefix("log_") for name in FEATURE_NAMES[1 : 1 + table.shape[1]]]
    assert not table[[0, 1]].any()
    assert table[8, kinds.index("bracket")] == 1
    assert table[6, kinds.index("not_ascii")] == 1
    assert table[4, kinds.index("continuation")] == 1


def neighbours_slowly(near, success, log_tokens, settings, priors):
    """One query, one model at a time."""
    similarity, index = near
    rows, models = len(similarity), success.shape[1]
    out = np.zeros((3, rows, models))
    for n in range(rows):
        best = similarity[n].max()
        for m in range(models):
            weights = [float(np.exp((s - best) / settings.temperature)) for s in similarity[n]]
            good = [(w, success[i, m]) for w, i in zip(weights, index[n], strict=True)]
            good = [(w, y) for w, y in good if np.isfinite(y)]
            long = [(w, log_tokens[i, m]) for w, i in zip(weights, index[n], strict=True)]
            long = [(w, y) for w, y in long if np.isfinite(y)]
            r, q = settings.prior_rows, settings.length_prior_rows
            prior, mean, std = (each[m] for each in priors)
            out[0, n, m] = (sum(w * y for w, y in good) + r * prior) / (sum(w for w, _ in good) + r)
            total = sum(w for w, _ in long) + q
            out[1, n, m] = (sum(w * y for w, y in long) + q * mean) / total
            second = (sum(w * y * y for w, y in long) + q * (std**2 + mean**2)) / total
            out[2, n, m] = np.sqrt(second - out[1, n, m] ** 2)
    return out


@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_neighbours_agree_with_their_definition(gaps):
    rng = RNG(1)
    success = (rng.random((30, 3)) < 0.6).astype(np.float32)
    log_tokens = rng.normal(5, 1, (30, 3)).astype(np.float32)
    success[rng.random((30, 3)) < gaps] = np.nan
    log_tokens[rng.random((30, 3)) < gaps] = np.nan
    similarity = rng.random((7, 8)).astype(np.float32)
    index = np.stack([rng.permutation(30)[:8] for _ in range(7)])
    settings = NeighbourSettings(neighbours=8, temperature=0.2, prior_rows=1.5, length_prior_rows=0.7)
    priors = (np.array([0.6, 0.5, 0.4]), np.full(3, 5.0), np.full(3, 1.0))
    names = ("prior_success", "prior_length_mean", "prior_length_std")
    made = estimate_from_neighbours(
        similarity, success, log_tokens, index, settings, **dict(zip(names, priors, strict=True))
    )
    wanted = neighbours_slowly((similarity, index), success, log_tokens, settings, priors)
    np.testing.assert_allclose(made.success, wanted[0], rtol=1e-5)
    np.testing.assert_allclose(made.length_mean, wanted[1], rtol=1e-5)
    np.testing.assert_allclose(made.length_std, wanted[2], rtol=1e-3)
    np.testing.assert_array_equal(made.similarity, similarity.max(axis=1))


def test_without_labels_the_neighbours_say_the_prior():
    nothing = np.full((4, 2), np.nan, dtype=np.float32)
    made = estimate_from_neighbours(
        np.ones((1, 3), np.float32), nothing, nothing, np.array([[0, 1, 2]]), NeighbourSettings(),
        prior_success=np.array([0.3, 0.8]), prior_length_mean=np.array([4.0, 5.0]),
        prior_length_std=np.ones(2),
    )  # fmt: skip
    np.testing.assert_allclose(made.success, [[0.3, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(made.length_std, 1.0, rtol=1e-5)


def test_a_neighbour_that_is_not_there_does_not_count():
    labels = np.array([[1.0], [0.0]], dtype=np.float32)
    made = [
        estimate_from_neighbours(
            similarity, labels, labels, index, NeighbourSettings(), prior_success=np.array([0.5]),
            prior_length_mean=np.zeros(1), prior_length_std=np.ones(1),
        ).success
        for similarity, index in (
            (np.array([[0.9]], np.float32), np.array([[0]])),
            (np.array([[0.9, -np.inf]], np.float32), np.array([[0, 1]])),
        )
    ]  # fmt: skip
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("field", ["neighbours", "temperature", "prior_rows", "length_prior_rows"])
def test_neighbour_settings_are_checked(field):
    with pytest.raises(InputError, match=f"{field}: got 0"):
        NeighbourSettings(**{field: 0})


def test_logit_and_expit_are_inverse():
    p = np.linspace(0.001, 0.999, 101, dtype=np.float32)
    np.testing.assert_allclose(expit(logit(p)), p, atol=2e-7)
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()


def calibration(models=3, **changes):
    values = {
        "success_weight": 0.5,
        "length_weight": 0.5,
        "intercept": np.zeros(models, np.float32),
        "common_slope": np.ones(models, np.float32),
        "deviation_slope": np.ones(models, np.float32),
        "prior_logit": np.linspace(-0.5, 0.5, models).astype(np.float32),
        "prior_length": np.full(models, 5.0, np.float32),
        "back_off": BackOff(),
        "length_factor": np.ones(models, np.float32),
        "length_std_scale": np.ones(models, np.float32),
        "residual_share": np.full(models, 0.3, np.float32),
    }
    return Calibration(**{**values, **changes})


def scores(rows=6, models=3, seed=0):
    rng = RNG(seed)
    z, mean = rng.normal(size=(rows, models)), rng.normal(5, 1, (rows, models))
    return Scores(*(a.astype(np.float32) for a in (z, mean, np.full((rows, models), 0.5))))


def test_the_identity_calibration_changes_nothing():
    given = scores()
    made = calibration().apply(given)
    np.testing.assert_allclose(made.quality, expit(given.success_logit), rtol=1e-6)
    wanted = np.expm1(given.length_mean + 0.125)
    np.testing.assert_allclose(made.output_tokens, np.maximum(wanted, 1), rtol=1e-5)
    np.testing.assert_allclose(made.quality_std, np.sqrt(0.3 * made.quality * (1 - made.quality)), rtol=1e-5)


def test_a_slope_of_zero_on_the_deviation_leaves_what_models_share():
    given = scores()
    made = calibration(deviation_slope=np.zeros(3, np.float32)).apply(given)
    np.testing.assert_allclose(made.quality.std(axis=1), 0, atol=1e-6)


def test_forecasts_back_off_to_the_prior_and_to_nothing_else():
    given = scores()
    back_off = BackOff(low=0.2, high=0.6, common_floor=0.0, deviation_floor=0.0, length_floor=0.0)
    backed_off = calibration(back_off=back_off)
    far = backed_off.apply(given, np.full(6, 0.1, np.float32))
    np.testing.assert_allclose(far.quality, np.tile(expit(backed_off.prior_logit), (6, 1)), rtol=1e-5)
    # What is not known of the mean any more goes to the spread.
    lost = np.sqrt(0.25 + np.square(given.length_mean - 5.0) + AWAY_LENGTH_STD**2)
    np.testing.assert_allclose(far.log_tokens_std, lost, rtol=1e-5)
    near, unknown = (
        backed_off.apply(given, np.full(6, value, np.float32)).quality for value in (0.7, np.nan)
    )
    np.testing.assert_array_equal(near, unknown)
    np.testing.assert_array_equal(near, calibration().apply(given).quality)


def test_a_calibration_survives_its_table():
    made = calibration(back_off=BackOff(0.1, 0.5, 0.25, 0.5, 0.75), success_weight=0.3)
    back = Calibration.from_table(made.to_table(), 3)
    given, near = scores(), np.linspace(0, 1, 6).astype(np.float32)
    np.testing.assert_allclose(back.apply(given, near).quality, made.apply(given, near).quality, rtol=1e-5)
    assert back.back_off == made.back_off


def test_far_from_known_ground_everything_goes_to_the_prior_whatever_training_found():
    given, kept = scores(), calibration(back_off=BackOff())
    far, near = (kept.apply(given, np.full(6, value, np.float32)) for value in (0.3, 0.9))
    home = kept.apply(given)
    np.testing.assert_array_equal(near.quality, home.quality)
    np.testing.assert_array_equal(near.log_tokens_std, home.log_tokens_std)
    np.testing.assert_allclose(far.quality, np.tile(expit(kept.prior_logit), (6, 1)), rtol=1e-5)
    np.testing.assert_allclose(far.log_tokens, np.full((6, 3), 5.0), rtol=1e-5)
    assert (far.log_tokens_std > np.maximum(near.log_tokens_std, AWAY_LENGTH_STD)).all()
    coin = far.quality * (1 - far.quality)
    wanted = np.sqrt(np.minimum(kept.residual_share * coin + (AWAY_LEVEL_STD * coin) ** 2, coin))
    np.testing.assert_allclose(far.quality_std, wanted, rtol=1e-5)
    # Half way both stand in between.
    middle = kept.apply(given, np.full(6, 0.4, np.float32)).quality
    assert ((middle - far.quality) * (near.quality - middle) >= -1e-6).all()


@pytest.mark.parametrize("key", ["intercept", "fade", "success_weight", "residual_share"])
def test_a_calibration_with_a_part_missing_is_refused(key):
    table = calibration().to_table()
    del table[key]
    with pytest.raises(BundleError, match=key):
        Calibration.from_table(table, 3)


def test_a_calibration_of_another_pool_is_refused():
    with pytest.raises(BundleError, match="intercept: wanted 4"):
        Calibration.from_table(calibration().to_table(), 4)


def test_the_blend_takes_its_shares():
    one, two = scores(seed=1), scores(seed=2)
    mixed = blend(one, two, success_weight=1.0, length_weight=0.25)
    np.testing.assert_array_equal(mixed.success_logit, one.success_logit)
    np.testing.assert_allclose(mixed.length_mean, 0.25 * one.length_mean + 0.75 * two.length_mean, rtol=1e-6)


def test_logistic_regression_finds_planted_coefficients():
    rng = RNG(3)
    x = np.column_stack([np.ones(20_000), rng.normal(size=(20_000, 2))])
    wanted = np.array([0.5, -1.0, 2.0])
    y = rng.random(20_000) < expit(x @ wanted)
    np.testing.assert_allclose(fit_logistic(x, y.astype(float), ridge=1e-6), wanted, atol=0.08)
    # Shares count as shares, so the noiseless outcome gives the coefficients back.
    exact = fit_logistic(x, 1 / (1 + np.exp(-(x @ wanted) - 0.7)), ridge=1e-9, offset=np.full(20_000, 0.7))
    np.testing.assert_allclose(exact, wanted, atol=1e-6)


def test_logistic_regression_stays_finite_when_all_succeed():
    beta = fit_logistic(np.ones((30, 1)), np.ones(30), ridge=1.0)
    assert 2 < beta[0] < 10
    pulled = fit_logistic(np.ones((30, 1)), np.ones(30), ridge=1e9, centre=-1.0)
    assert pulled[0] == pytest.approx(-1.0, abs=1e-6)


def world(rows, seed=0):
    """Three known models and a head that is good where the known ones are, and wordier."""
    rng = RNG(seed)
    hard = rng.normal(size=rows)
    embedding = rng.normal(size=(rows, 8)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    z = 0.5 + hard[:, None] + rng.normal(0, 0.2, (rows, 3))
    tokens = np.exp(5 + 0.3 * hard[:, None] + rng.normal(0, 0.05, (rows, 3)))
    quality = expit(z)
    known = Prediction(
        ("a", "b", "c"), quality, tokens.astype(np.float32), np.sqrt(0.3 * quality * (1 - quality)),
        np.full((rows, 3), 0.4, np.float32), np.full(rows, 20), embedding=embedding,
    )  # fmt: skip
    p = expit(1.2 + 0.9 * hard)
    spent = np.exp(5.7 + 0.3 * hard + rng.normal(0, 0.3, rows))
    return known, (rng.random(rows) < p).astype(float), spent, p


@pytest.mark.parametrize(("labels", "error"), [(20, 0.25), (50, 0.13), (500, 0.06)])
def test_a_new_model_is_learned_from_few_labels(labels, error):
    known, good, spent, truth = world(3000)
    made = fit_new_model("new", known.rows(slice(0, labels)), good[:labels], spent[:labels])
    column = made.column(known.rows(slice(1000, 3000)))
    assert np.abs(column["quality"] - truth[1000:]).mean() < error
    assert column["output_tokens"].sum() == pytest.approx(
        spent[1000:].sum(), rel=0.3 if labels < 50 else 0.15
    )
    assert (column["quality_std"] > 0).all()
    assert made.length_std == pytest.approx(0.3, abs=0.12)


def test_labels_of_its_own_tell_what_the_others_cannot():
    known, _, spent, _ = world(2000)
    good = (known.embedding[:, 0] > 0).astype(float)  # nothing the known models' forecasts hold
    made = fit_new_model("new", known.rows(slice(0, 600)), good[:600], spent[:600])
    quality = made.column(known.rows(slice(600, 2000)))["quality"]
    assert ((quality > 0.5) == good[600:]).mean() > 0.8


class Fixed:
    """A predictor that knows its answers."""

    models = ("a", "b", "c")
    device = "cpu"

    def predict(self, queries):
        return world(3000)[0].rows(slice(0, len(queries)))


def test_a_predictor_with_new_models_adds_their_columns():
    known, good, spent, _ = world(3000)
    made = fit_new_model("new", known.rows(slice(0, 100)), good[:100], spent[:100])
    wider = PredictorWithNewModels(Fixed(), [made])
    prediction = wider.predict([Query.of("x")] * 5)
    assert prediction.models == wider.models == ("a", "b", "c", "new")
    np.testing.assert_array_equal(prediction.select(("a", "b", "c")).quality, known.rows(slice(0, 5)).quality)
    assert prediction.quality.shape == (5, 4)
    assert wider.device == "cpu"
    with pytest.raises(InputError, match="'new' is there twice"):
        PredictorWithNewModels(Fixed(), [made, made])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("a", {}, "'a' is known to the predictor already"),
        ("new", {"quality": np.full(50, np.nan)}, "got 0 labelled queries for model 'new'"),
        ("new", {"quality": np.full(50, 7.0)}, "got 7 to 7, wanted 0 to 1"),
        ("new", {"quality": np.zeros(3)}, r"quality: got shape \(3,\), wanted \(50,\)"),
        ("new", {"output_tokens": np.zeros((50, 2))}, "output_tokens: got shape"),
    ],
)
def test_bad_labels_of_a_new_model_are_refused(name, change, message):
    known, good, spent, _ = world(50)
    with pytest.raises(InputError, match=message):
        fit_new_model(name, known, **{"quality": good, "output_tokens": spent, **change})


def test_the_pace_follows_what_is_faster_now():
    from eccos_rs.predict.autotune import ThreadingAutotuner

    def runs(pace, count, seconds):
        taken = []
        for _ in range(count):
            taken.append(pace.choose())
            pace.record(taken[-1], seconds[taken[-1]])
        return taken

    pace = ThreadingAutotuner()
    free = runs(pace, 400, (1.0, 2.0))
    assert free[:8] == [0] * 8
    assert 2 < sum(free) < 15  # tried, ever less often
    busy = runs(pace, 1200, (5.0, 2.0))
    assert sum(way == 0 for way in busy[-1000:]) < 20
    again = runs(pace, 1200, (1.0, 2.0))
    assert sum(again[-1000:]) < 20
    # One slow run among many is no reason to go over.
    pace.record(0, 1.5)
    assert pace.choose() == 0


def test_an_old_name_still_works_and_says_what_to_write():
    from eccos_rs.predict import calibration as where

    with pytest.warns(DeprecationWarning, match="Fade is deprecated: use BackOff"):
        assert where.Fade is BackOff
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        where.Nothing  # noqa: B018 - the lookup is what is tested
