"""The model card: what a bundle is and was made of, how well it does, and what it is not for."""

from __future__ import annotations

from collections import Counter
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eccos_rs.pools.pool import Pool
    from eccos_rs.train.data import TrainingData
    from eccos_rs.train.options import TrainOptions

__all__ = ["describe_shares", "figure_rows", "model_card"]

_ROWS = (
    ("auc", "AUC of success", "{:.3f}"),
    ("brier", "Brier score", "{:.4f}"),
    ("brier_mean", "Brier score of each model's mean on the same queries", "{:.4f}"),
    ("ece", "calibration error, mean over models (15 equal-mass bins)", "{:.3f}"),
    ("ece_pairs", "calibration error, all pairs together", "{:.3f}"),
    ("ece_chosen", "calibration error, chosen pairs", "{:.3f}"),
    ("log_length_mae", "mean absolute error of ln(1 + output tokens)", "{:.3f}"),
    ("total_cost_error", "error of a model's total output tokens", "{:.1%}"),
    ("cost_error", "error of a model's total cost, input tokens estimated from the text", "{:.1%}"),
    ("quality_at_5", "realised success at 5 % of the strongest model's cost", "{:.1%}"),
    ("quality_at_10", "realised success at 10 % of the strongest model's cost", "{:.1%}"),
    ("quality_at_20", "realised success at 20 % of the strongest model's cost", "{:.1%}"),
    (
        "promise_error",
        "promised minus realised success, mean size over 0.66 to 0.74, batches of 256",
        "{:.3f}",
    ),
)


def figure_rows(figures: dict[str, dict[str, float]]) -> list[list[str]]:
    """Return one row a measure: its name and its value for each kind of predictor."""
    rows = []
    for key, label, form in _ROWS:
        if any(key in values for values in figures.values()):
            cells = [form.format(values[key]) if key in values else "-" for values in figures.values()]
            rows.append([label, *cells])
    return rows


def model_card(
    name: str,
    data: TrainingData,
    pool: Pool,
    options: TrainOptions,
    *,
    layers: int,
    learned: int,
    held: int,
    figures: dict[str, dict[str, float]],
    sources: Sequence[str],
    shares: Mapping[str, float],
) -> str:
    """Write the card.

    Parameters
    ----------
    name : str
        Of the bundle.
    data : TrainingData
        All labelled queries.
    pool : Pool
        The models with their prices.
    options : TrainOptions
        The recipe.
    layers : int
        Of the encoder.
    learned, held : int
        Queries behind the predictor and behind the figures.
    figures : dict
        Kind of predictor to figures.
    sources : sequence of str
        One line each.
    shares : mapping of str to float
        How far the labels of each dataset were moved; see `eccos_rs.train.denoise`.

    Returns
    -------
    str
        Markdown.
    """
    parts = [
        f"# {name}\n",
        "Predicts, for a query in English, how likely each model of a pool is to answer it well and how many "
        "tokens the answer will take, so that a router can send it to the cheapest model that will do.\n",
        _pool_section(data, pool),
        _data_section(data, learned, sources),
        _figure_section(held, figures, options),
        _method_section(options, layers, shares),
        _LIMITS,
    ]
    return "\n".join(parts)


def _pool_section(data: TrainingData, pool: Pool) -> str:
    lines = [
        "## Models\n",
        "| model | success in the data | mean output tokens | US$ per million tokens, in / out | price |",
        "|---|---|---|---|---|",
    ]
    success = np.nanmean(data.quality, axis=0)
    tokens = np.nanmean(data.table.output_tokens, axis=0)
    for model, good, length in zip(pool, success, tokens, strict=True):
        source = ", ".join(each for each in (model.price_source, model.price_date) if each) or "-"
        prices = f"{model.input_price:g} / {model.output_price:g}"
        lines.append(f"| {model.name} | {good:.1%} | {length:.0f} | {prices} | {source} |")
    return "\n".join(lines) + "\n"


def _data_section(data: TrainingData, learned: int, sources: Sequence[str]) -> str:
    counts = Counter(each.split("/")[0] for each in data.table.dataset)
    kinds = ", ".join(f"{kind} ({count:,})" for kind, count in counts.most_common(12))
    lines = [
        "## Data\n",
        f"{len(data):,} labelled queries: {kinds}. The predictor has learned from {learned:,} of them.",
    ]
    if data.aux_names:
        lines.append(
            f"{len(data.aux_names)} further models on the same queries made better labels; none is routed to."
        )
    lines.append("No query text is in the bundle: only weights, embeddings and labels.")
    if sources:
        lines += ["", "Sources:", "", *(f"- {source}" for source in sources)]
    return "\n".join(lines) + "\n"


def _figure_section(held: int, figures: dict[str, dict[str, float]], options: TrainOptions) -> str:
    if not figures:
        return "## Figures\n\nNo queries were held back, so there are none.\n"
    how = (
        f"On {held:,} queries held back by text groups (near-identical questions stay together). They come "
        "from a predictor trained on the rest alone"
    )
    how += (
        "; the shipped one was then trained in the same way on everything."
        if options.refit
        else ", which is the one shipped."
    )
    lines = ["## Figures\n", how, "", f"| measure | {' | '.join(figures)} |", "|---|" + "---|" * len(figures)]
    lines += [f"| {' | '.join(row)} |" for row in figure_rows(figures)]
    return "\n".join(lines) + "\n"


def _method_section(options: TrainOptions, layers: int, shares: Mapping[str, float]) -> str:
    from eccos_rs.train.encoder import LAYERS, low_layer

    low = low_layer(layers)
    head = "linear heads" if options.head == "linear" else f"one hidden layer of {options.hidden}"
    encoder = "all-MiniLM-L6-v2"
    if layers < LAYERS:
        encoder = f"{layers} layers that were taught, without labels, to say what those of {encoder} say"
    if options.finetune:
        encoder += f", fine-tuned above layer {options.frozen_layers} for {options.finetune_epochs} epochs"
    kernel = ""
    if options.head == "mlp" and options.kernel_share > 0.0 and not options.finetune:
        kernel = f"The kernel regression compares by layer {low} and the counts."
        head += f", averaged with a kernel regression by a share of {options.kernel_share:.0%}"
    seeds = f" x {options.members} seeds" if options.members > 1 else ""
    average = "" if options.finetune else f", mean of {options.folds} folds{seeds}"
    sentences = f"""Encoder: {encoder}; {options.max_tokens} tokens. Heads
    ({head}{average}) read the mean of layer {low} and of the last layer and counts of word pieces; lengths
    are learned by a quantile loss. {kernel} Neighbours are found by the last layer and the counts, weighted
    by similarity and shrunk to the mean. {describe_shares(shares)} Success is calibrated on out-of-fold
    forecasts in two parts (what all models share, and what sets them apart) and fades towards the mean on
    unknown ground. `quality_std` is the part of p (1 - p) that is a property of the query rather than a coin
    flip, estimated from how the errors of two models on one query go together. Seed {options.seed}."""
    return f"## Method\n\n{fill(' '.join(sentences.split()), 105)}\n"


def describe_shares(shares: Mapping[str, float]) -> str:
    """Say how far the labels were moved, the datasets named where they differ."""
    kinds: dict[float, list[str]] = {}
    for name, share in shares.items():
        kinds.setdefault(share, []).append(name)
    usual = max(kinds, key=lambda share: len(kinds[share]))
    where = f"of {', '.join(kinds[usual])} " if len(kinds) > 1 and len(kinds[usual]) == 1 else ""
    moved = (
        f"Labels {where}are as observed"
        if usual == 0.0
        else f"Labels {where}are moved {usual:.0%} of the way to their expectation given how other models "
        "answered the same query"
    )
    others = [
        f"{'not at all' if share == 0.0 else f'by {share:.0%}'} for {', '.join(sorted(names))}"
        for share, names in sorted(kinds.items())
        if share != usual
    ]
    return "; ".join([moved, *others]) + "."


_LIMITS = """## Intended use and limits

For routing questions like those above among the models above. Success means: marked right by the
benchmark's own rule. It says nothing about style, safety or truth in open conversation. On other kinds of
queries forecasts fade towards each model's mean: expect little more than that there, and train on data of
one's own. Prices and models change; a pool file overrides the prices, and models that answer otherwise than
in the data need new labels. Queries in other languages than English are unknown ground.

## Licences

Encoder: sentence-transformers/all-MiniLM-L6-v2, Apache-2.0. This bundle: Apache-2.0. The data keep their
own licences, named above.
"""
