"""What the words of queries tell beside their embedding: labels alone, five folds, no prior.

    python -m benches.words DATA.parquet [DATA.parquet ...]

For each of some models a kernel regression learns from four fifths of the labels, by the embedding, by both,
and by both only where the error on left-out labels says so, as `router.learn` decides. Mean AUC and Brier.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from eccos_rs import Pool, Query, Router
from eccos_rs.evaluate.metrics import auc
from eccos_rs.predict.onboarding import kernel_ridge, kernel_rows
from eccos_rs.predict.prior.lexical import lexical_rows, sketch_words
from eccos_rs.predict.prior.posterior import WORDS_WORTH

MODELS, ROWS, FOLDS = 6, 1_000, 5
VIEWS = ("embedding", "both", "chosen")


def read(path: Path) -> tuple[list[str], np.ndarray]:
    """Return texts that every model answered, and the success of some models; prices take no part."""
    answers = pq.read_table(path, columns=["query", "model", "quality"]).to_pydict()
    rng, found = np.random.default_rng(0), {}
    models = sorted(set(answers["model"]))
    models = [models[at] for at in rng.permutation(len(models))[:MODELS]]
    for text, model, good in zip(*answers.values(), strict=True):
        if model in models and good is not None:
            found.setdefault(text, {})[model] = good
    texts = sorted(text for text, told in found.items() if len(told) == len(models))
    texts = [texts[at] for at in rng.permutation(len(texts))[:ROWS]]
    return texts, np.array([[found[text][model] for model in models] for text in texts], dtype=np.float64)


def score(told: np.ndarray, quality: np.ndarray) -> str:
    """Return the mean AUC of models that are sometimes right and sometimes wrong, and the Brier score."""
    good = quality > 0.5
    mixed = np.flatnonzero((good.mean(axis=0) > 0.0) & (good.mean(axis=0) < 1.0))
    areas = [auc(told[:, at], good[:, at]) for at in mixed]
    return f"{np.mean(areas):.4f} / {np.mean((told - quality) ** 2):.4f}"


def views(train: np.ndarray, test: np.ndarray, embedding: np.ndarray, words: np.ndarray):
    """Return the kernels of both views, each among the labelled queries and from the others to them."""
    near, to = kernel_rows(embedding[train], embedding[train]), kernel_rows(embedding[test], embedding[train])
    near_words, to_words = lexical_rows(words[train], words[train]), lexical_rows(words[test], words[train])
    return (near, to), (0.5 * (near + near_words), 0.5 * (to + to_words))


def forecast(kernels, good: np.ndarray) -> dict[str, np.ndarray]:
    """Return the success of the other queries by each view."""
    mean, made = good.mean(), []
    for near, to in kernels:
        dual, out = kernel_ridge(near, good - mean)
        made.append((np.mean(out**2), np.clip(mean + to @ dual, 0.02, 0.98)))
    (alone, one), (beside, both) = made
    return dict(zip(VIEWS, (one, both, both if beside < (1.0 - WORDS_WORTH) * alone else one), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="+")
    chosen = parser.parse_args()
    router = Router.day_one(Pool.of("gpt-5-mini", "claude-sonnet-4.5"), device="cpu")
    print("| data | queries | " + " | ".join(f"{view}: AUC / Brier" for view in VIEWS) + " |")
    print("|---|---|" + "---|" * len(VIEWS))
    for path in chosen.data:
        texts, quality = read(path)
        embedding = router.predict([Query(text) for text in texts]).embedding
        words, fold = sketch_words(texts), np.random.default_rng(1).integers(FOLDS, size=len(texts))
        told = {view: np.zeros(quality.shape) for view in VIEWS}
        for part in range(FOLDS):
            train, test = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
            kernels = views(train, test, embedding, words)
            for column in range(quality.shape[1]):
                good = quality[train, column]
                for view, values in forecast(kernels, good).items():
                    told[view][test, column] = values
        cells = [score(told[view], quality) for view in VIEWS]
        print(f"| {path.stem} | {len(texts)} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
