"""A router from names and scores alone: it routes any models, says what it rests on, learns and is saved."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_rs import LLM, Bundle, Pool, Query, Router
from eccos_rs.errors import BundleError, InputError
from eccos_rs.predict.bundle import DAY_ONE_BUNDLE, SHIPPED
from eccos_rs.predict.open import open_predictor
from eccos_rs.predict.prior.learned import LearnedPredictor
from eccos_rs.records import Output, Record

pytestmark = pytest.mark.skipif(
    not (SHIPPED / DAY_ONE_BUNDLE / "bundle.toml").is_file(),
    reason="the day-one bundle is not in this checkout",
)

ASKED = [
    "What is the capital of France?",
    "A shop sells pens at 3 dollars and pads at 5 dollars. Ann buys 4 pens and 2 pads. What does she pay?",
    "A buyer sues a seller of land for breach of contract. The seller's best defense is that it was\n"
    "A. oral and within the statute of frauds.\nB. unfair.\nC. signed by an agent.\nD. made on a Sunday.",
    "Find all real x with x^4 - 10 x^2 + 9 = 0 and prove that there are no others.",
]


@pytest.fixture(scope="module")
def router() -> Router:
    return Router.day_one(device="cpu")


def own_pool() -> Pool:
    """Two models of one level that nobody lists, strong in different subjects."""
    subjects = ("law", "history", "philosophy", "math", "physics", "engineering")
    lawyer = {f"mmlu_pro/{name}": 0.8 if at < 3 else 0.4 for at, name in enumerate(subjects)}
    counter = {f"mmlu_pro/{name}": 0.4 if at < 3 else 0.8 for at, name in enumerate(subjects)}
    pool = Pool([LLM("my-lawyer", 1.0, 1.0), LLM("my-counter", 1.0, 1.0)])
    pool = pool.with_scores("my-lawyer", {"mmlu_pro": 0.6, **lawyer}, mean_tokens=200)
    return pool.with_scores("my-counter", {"mmlu_pro": 0.6, **counter}, mean_tokens=800)


def test_names_alone_make_a_router(router: Router) -> None:
    plan = router.route(ASKED)
    assert plan.status.name in {"OPTIMAL", "FEASIBLE"}
    assert set(plan.models) <= set(router.pool.names)
    assert router.predictor.models == router.pool.names
    made = router.predict(ASKED)
    assert ((made.quality > 0.02) & (made.quality < 0.995)).all()
    assert (made.output_tokens >= 1).all()
    # An easy question is easier than a proof, for every model.
    assert (made.quality[1] > made.quality[2] - 0.2).all()


def test_what_everybody_knows_is_not_beyond_models_of_today(router: Router) -> None:
    """The labels of trivia were marked by matching strings; a level is the model's under a usual harness."""
    assert router.predict(ASKED[:1]).quality.min() > 0.6


def test_scores_of_ones_own_tell_models_of_one_level_apart() -> None:
    router = Router.load(pool=own_pool(), device="cpu")
    made = router.predict(ASKED)
    lawyer, counter = made.quality[2]
    assert lawyer > counter + 0.05
    assert made.output_tokens[:, 1].mean() > 2 * made.output_tokens[:, 0].mean()
    rows = router.knowledge()
    assert [row.basis for row in rows] == ["category scores"] * 2
    assert all(row.tells_apart for row in rows)
    assert rows[0].level_std < 0.2


def test_a_model_nobody_lists_is_taken_and_said_to_be_unknown() -> None:
    pool = Pool([*Pool.of("gpt-5-mini"), LLM("xyzzy-unheard-of", 0.1, 0.1)])
    known, unknown = Router.load(pool=pool, device="cpu").knowledge()
    assert known.basis == "other benchmarks"
    assert unknown.basis in {"nothing", "price"}
    assert unknown.level_std > 2 * known.level_std
    assert "xyzzy-unheard-of" in repr(Router.load(pool=pool, device="cpu").knowledge())


def test_a_score_that_says_nothing_here_is_named() -> None:
    own = LLM(
        "mine", 1, 2, scores={"mmlu_proo": 0.9, "our_helpdesk": 0.7, "mmlu_pro": 0.6, "cruxeval_output": 0.5}
    )
    row = Router.day_one(Pool([own, LLM("other", 1, 2)])).knowledge()[0]
    assert row.note == "not used, no board lists it: mmlu_proo (near mmlu_pro), our_helpdesk"


def test_what_is_published_and_of_no_use_here_is_no_slip_of_the_pen() -> None:
    assert "not used" not in repr(Router.day_one(Pool.of("o3", "gpt-5-mini")).knowledge())


def test_a_pool_of_trained_models_keeps_the_trained_bundle() -> None:
    trained = Router.load(device="cpu")
    assert Router.load(pool=trained.pool, device="cpu").predictor.bundle_name == "qaserve-minilm"  # type: ignore[attr-defined]
    assert {row.basis for row in trained.knowledge()} == {"labels"}


def test_the_level_of_a_model_is_uncertain_as_its_source_says(router: Router) -> None:
    made = router.predict(ASKED[:2])
    assert made.level_std is not None
    assert made.level_std == pytest.approx([row.level_std for row in router.knowledge()], abs=2e-3)
    assert made.membership is not None
    assert made.membership.sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-5)


def test_without_queries_there_is_nothing(router: Router) -> None:
    made = router.predict([])
    assert made.quality.shape == (0, len(router.pool))


def graded(router: Router, good: float, rows: int = 40) -> list[Record]:
    """Let the first model answer all wrong or all right."""
    name = router.pool.names[0]
    return [
        Record(f"{ASKED[at % 4]} ({at})", "own", 50, (Output(name, good, 9_999, 0.01),)) for at in range(rows)
    ]


@pytest.mark.parametrize("good", [0.0, 1.0])
def test_labels_move_a_model_and_saving_keeps_it(good: float, tmp_path) -> None:  # type: ignore[no-untyped-def]
    router = Router.day_one(Pool.of("gpt-5-mini", "claude-sonnet-4.5"), device="cpu")
    before = router.predict(ASKED)
    router.learn(graded(router, good))
    after = router.predict(ASKED)
    moved = (after.quality - before.quality)[:, 0].mean()
    assert (moved < -0.1) if good == 0.0 else (moved > 0.005)
    assert after.level_std[0] < before.level_std[0]  # type: ignore[index]
    assert after.output_tokens[:, 0].mean() > 1.2 * before.output_tokens[:, 0].mean()
    assert after.output_tokens[:, 1] == pytest.approx(before.output_tokens[:, 1])
    assert router.knowledge()[0].labels == 40

    bundle = router.save(tmp_path / "kept")
    assert not bundle.shared
    again = Router.load(bundle.path, device="cpu")
    assert again.pool.names == router.pool.names
    assert again.predict(ASKED).quality == pytest.approx(after.quality, abs=1e-3)
    assert again.knowledge()[0].labels == 40
    # What was learned goes on.
    assert again.learn(graded(router, good)).knowledge()[0].labels == 80


def test_feedback_speaks_of_a_routed_query_by_its_id(router: Router) -> None:
    own = Router.day_one(Pool.of("gpt-5-mini", "claude-sonnet-4.5"), device="cpu")
    own.route([Query(ASKED[0], id="q-17")])
    own.feedback("q-17", "gpt-5-mini", good=False, channel="thumbs")
    own.feedback(Query(ASKED[1]), "gpt-5-mini", good=True, channel="thumbs")
    assert isinstance(own.predictor, LearnedPredictor)
    assert own.knowledge()[0].labels == 2
    assert np.isfinite(own.predict(ASKED).quality).all()
    with pytest.raises(InputError, match="'q-99' is not the id of a query that this router has routed"):
        own.feedback("q-99", "gpt-5-mini", good=True)
    with pytest.raises(InputError, match=r"model: got 'gpt-6'; the models of the pool are gpt-5-mini"):
        own.feedback("q-17", "gpt-6", good=True)
    with pytest.raises(InputError, match=r"good: got 3.0 for 'gpt-5-mini', wanted 0 to 1"):
        own.feedback("q-17", "gpt-5-mini", good=3.0)


def test_a_flood_of_feedback_on_one_model_drives_out_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eccos_rs.predict.prior.learned.MOST_OUTCOMES", 200)
    first, second = "gpt-5-mini", "claude-sonnet-4.5"
    router = Router.day_one(Pool.of(first, second), device="cpu")
    both = (Output(first, 0.0, 100, 0.01), Output(second, 1.0, 100, 0.01))
    router.learn([Record(f"{ASKED[at % 4]} ({at})", "own", 50, both) for at in range(40)])
    labelled = router.predict(ASKED)
    for at in range(400):
        router.feedback(Query(f"{ASKED[at % 4]} ({at % 40})"), first, good=True, channel="thumbs")
    flooded = router.predict(ASKED)
    assert [row.labels for row in router.knowledge()] == [160, 40]
    # Honest labels stay what they are, and clicks on one say nothing of the other.
    assert flooded.quality[:, 1] == pytest.approx(labelled.quality[:, 1], abs=0.01)
    assert flooded.quality[:, 0].mean() < labelled.quality[:, 0].mean() + 0.05
    assert flooded.level_std == pytest.approx(labelled.level_std, rel=0.15)


def test_records_of_other_models_teach_nothing_and_say_so(router: Router) -> None:
    strange = [Record("Hi", "own", 5, (Output("somebody-else", 1.0, 5, 0.01),))]
    with pytest.raises(InputError, match=r"records: got 'somebody-else'; the models of the pool are "):
        router.learn(strange)


def test_a_trained_router_learns_too() -> None:
    router = Router.load(device="cpu")
    before = router.predict(ASKED)
    after = router.learn(graded(router, 0.0)).predict(ASKED)
    moved = (after.quality - before.quality).mean(axis=0)
    # On queries unlike any that are known, a failure speaks of all models, and most of the one that failed.
    assert moved[0] < -0.1
    assert moved[0] < moved[1:].min() - 0.02


def test_the_shipped_bundle_borrows_its_encoder_and_names_no_model() -> None:
    bundle = Bundle.load(DAY_ONE_BUNDLE)
    assert bundle.models == ()
    assert bundle.shared
    assert bundle.size < 20e6
    with pytest.raises(InputError, match="names no model; give the models to forecast"):
        open_predictor(bundle, device="cpu")


def test_a_bundle_whose_lender_is_gone_says_what_is_missing(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import shutil

    lender = tmp_path / "qaserve-minilm"
    shutil.copytree(SHIPPED / DAY_ONE_BUNDLE, tmp_path / DAY_ONE_BUNDLE)
    lender.mkdir()
    (lender / "bundle.toml").write_text("")
    with pytest.raises(BundleError, match=r"weights\.bin: missing"):
        Bundle.load(tmp_path / DAY_ONE_BUNDLE)
