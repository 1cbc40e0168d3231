"""The shipped bundle, end to end: nothing configured, real texts, the real encoder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import eccos_rs
from eccos_rs import Bundle, BundleError, DeviceError, InputError, Pool, PoolError, Query, Router, Status
from eccos_rs.cli.common import read_queries
from tests.helpers.paths import ROOT

SAMPLES = ROOT / "examples" / "queries.jsonl"
TWO = ["What is 2+2?", "Prove that there are infinitely many primes."]


@pytest.fixture(scope="module")
def router() -> Router:
    return Router.load(device="cpu")


@pytest.fixture(scope="module")
def samples() -> list[Query]:
    return read_queries(str(SAMPLES))


def test_the_one_call_needs_nothing_configured():
    code = "import eccos_rs; print(eccos_rs.route(['What is 2+2?', 'Prove it.'], min_quality=0.7))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert "all to the strongest" in done.stdout
    assert done.stderr == ""


def test_the_samples_cover_what_people_ask(samples):
    assert len(samples) >= 60
    kinds = {query.id.rpartition("-")[0] for query in samples}
    assert kinds >= {"knowledge", "sums", "maths", "code", "chat", "language", "long", "empty"}
    assert len({query.prompt for query in samples}) == len(samples)
    assert max(len(query.prompt) for query in samples) > 4000
    assert any(not query.prompt.strip("\u200b \t") for query in samples)
    assert any(query.messages for query in samples)


def test_the_samples_are_routed_below_the_price_of_the_strongest(router, samples):
    plan = router.route(samples)
    assert plan.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert plan.mean_quality >= plan.promised - 1e-9
    strongest, cheapest = plan.baselines
    assert cheapest.cost < plan.total_cost < 0.8 * strongest.cost
    assert len(set(plan.models)) >= 2
    assert plan.device == "cpu"
    assert set(plan.seconds) == {"tokenize", "encode", "retrieve", "predict", "assign", "other"}
    assert all(took >= 0 for took in plan.seconds.values())


def test_a_hard_problem_is_less_likely_to_be_solved_than_a_sum(router):
    easy = "A box holds 12 eggs. How many eggs are in 5 boxes?"
    hard = (
        "Find the number of ordered triples $(a,b,c)$ of positive integers with $abc = 2^{10} 3^{8}$ such "
        "that $a + b$ divides $c^2 + 1$. Express it as a polynomial in $n = \\sum_{k=1}^{10} \\binom{2k}{k}$."
    )
    quality = router.predict([easy, hard]).quality
    assert (quality[0] > quality[1]).all()


@pytest.mark.parametrize("kind", ["hybrid", "trained", "retrieval"])
def test_every_kind_of_predictor_routes(kind):
    plan = Router.load(predictor=kind, device="cpu").route(TWO, min_quality=0.5)
    assert None not in plan.models
    assert ((plan.quality > 0) & (plan.quality < 1)).all()
    assert (plan.output_tokens > 0).all()


def test_an_unknown_kind_or_device_is_refused():
    with pytest.raises(InputError, match="hybrid"):
        Router.load(predictor="oracle")
    with pytest.raises(InputError, match="'gpu'"):
        Router.load(device="gpu")


def test_cuda_without_a_gpu_is_an_error_never_a_silent_cpu_run():
    from eccos_rs.predict.device import device_report

    if device_report().auto == "cuda":
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError):
        Router.load(device="cuda")
    assert Router.load(device="auto").device == "cpu"


def test_hostile_texts_get_an_answer_each(router):
    texts = [
        "",
        " ",
        "\x00",
        "a\x00b",
        "\ud800",
        "\u202e\u200f",
        "👩‍👩‍👧" * 50,
        "\u0301" * 1000,
        "x" * 1_000_000,
        "word " * 200_000,
        "円" * 5000,
    ]
    plan = router.route(texts, min_quality=0.3)
    assert None not in plan.models
    assert np.isfinite(plan.cost).all()
    # A prompt is counted whole, also beyond what the encoder reads.
    assert plan.input_tokens[9] > 150_000
    assert plan.input_tokens[0] <= 100


def test_a_prompt_beyond_every_window_is_refused_by_name(router):
    with pytest.raises(eccos_rs.NoModelError, match=r"query 1: no model may take it: .*context window"):
        router.route(["short", "word " * 4_000_000])


def test_a_chat_and_an_image(router):
    chat = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is in this picture?"}, {"type": "image_url"}],
        }
    ]
    plan = router.route([chat, "Hi"])
    assert router.pool[plan.models[0]].vision


def test_a_pool_of_one_s_own_overrides_prices_and_models(router, tmp_path):
    first, second = router.pool.names[:2]
    dear = router.pool.select([first, second]).replace(first, input_price=1e6, output_price=1e6)
    (tmp_path / "pool.toml").write_text(dear.to_toml(), encoding="utf-8")
    plan = Router.load(device="cpu", pool=tmp_path / "pool.toml").route(TWO, min_quality=0.0)
    assert plan.models == [second, second]
    assert eccos_rs.route(TWO, pool=dear, min_quality=0.0).models == [second, second]
    stranger = Pool([eccos_rs.LLM("gpt-17", 1, 1)])
    with pytest.raises(PoolError, match="does not know 'gpt-17'; it knows"):
        Router(stranger, router.predictor)
    # Without a predictor that knows it, a model is routed by what is published of it; here nothing is.
    assert eccos_rs.route(TWO, pool=stranger, min_quality=0.0).models == ["gpt-17", "gpt-17"]


def test_the_row_of_a_query_does_not_depend_on_its_company(router, samples):
    alone = np.concatenate([router.predict([query]).quality for query in samples[:12]])
    together = router.predict(samples).quality[:12]
    assert np.abs(alone - together).max() < 0.02


def test_the_same_batch_gets_the_same_plan_from_any_thread(router, samples):
    wanted = router.route(samples).assignment.model.tobytes()
    with ThreadPoolExecutor(4) as threads:
        plans = list(threads.map(lambda _: router.route(samples), range(8)))
    assert {plan.assignment.model.tobytes() for plan in plans} == {wanted}


def test_an_altered_or_truncated_bundle_is_refused_by_file(tmp_path):
    place = tmp_path / "mine"
    shutil.copytree(Bundle.load().path, place)
    assert Router.load(place, device="cpu").route(["Hi"]).models[0]
    name = "tokenizer.json"
    content = (place / name).read_bytes()
    (place / name).write_bytes(content[:-10])
    with pytest.raises(BundleError, match=name):
        Router.load(place)
    (place / name).unlink()
    with pytest.raises(BundleError, match=f"{name}.*missing"):
        Router.load(place)
    (place / name).write_bytes(content)
    manifest = (place / "bundle.toml").read_text(encoding="utf-8")
    (place / "bundle.toml").write_text(
        manifest.replace("schema_version = 1", "schema_version = 9"), encoding="utf-8"
    )
    with pytest.raises(BundleError, match="schema_version 9 is newer"):
        Router.load(place)


def test_the_answer_on_real_questions_keeps_its_promise(router, data_dir):
    """On records the calibration is known: what is promised in expectation is met within chance."""
    import pyarrow.parquet as pq

    table = pq.read_table(
        data_dir / "qaserve_public.parquet", columns=["query", "model", "quality"]
    ).to_pandas()
    wide = (
        table.drop_duplicates(["query", "model"])
        .pivot(index="query", columns="model", values="quality")
        .dropna()
    )
    some = wide.sample(160, random_state=3)
    plan = router.route(list(some.index), min_quality=0.70)
    columns = [list(some.columns).index(name) for name in plan.models]
    realised = some.to_numpy()[np.arange(len(some)), columns].mean()
    # Most of these were seen in training, so this is one-sided: no worse than promised by 4 sd of chance.
    assert realised >= 0.70 - 4 * np.sqrt(0.21 / 160)
