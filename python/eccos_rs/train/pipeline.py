"""Training from beginning to end: data and options in, a bundle and its figures out."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.domain.pricing import cost_matrix
from eccos_rs.predict.tokenize import InputTokenEstimate
from eccos_rs.records import split_by_text
from eccos_rs.train import encoder as encoders
from eccos_rs.train.card import model_card
from eccos_rs.train.export import export_bundle
from eccos_rs.train.figures import cost_error, forecast_figures, routing_figures
from eccos_rs.train.fit import KINDS, Trained, fit_predictor, training_steps
from eccos_rs.train.input_tokens import fit_input_tokens
from eccos_rs.train.optimize import make_graphs
from eccos_rs.train.prices import price_array
from eccos_rs.train.texts import encode_texts, read_texts
from eccos_rs.train.weights import predictor_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from eccos_rs.pools.pool import Pool
    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.records import RecordTable
    from eccos_rs.train.data import TrainingData
    from eccos_rs.train.fit import Fitted
    from eccos_rs.train.options import TrainOptions
    from eccos_rs.train.texts import Texts

    Progress = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]

__all__ = ["TrainResult", "encoder_states", "train_bundle"]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-back queries with what the hybrid forecast of them.

    Attributes
    ----------
    table : RecordTable
        n queries and M models.
    quality : ndarray of float32, shape (n, M)
        Predicted success.
    cost : ndarray of float64, shape (n, M)
        US dollars expected.
    """

    table: RecordTable
    quality: NDArray[np.float32]
    cost: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What training made.

    Attributes
    ----------
    bundle : Bundle
        On disk, checked.
    figures : dict of str to dict of str to float
        A kind of predictor to its figures on the held-back queries; empty without a holdout.
    learned, held_back : int
        Queries behind the shipped predictor, and behind the figures.
    shares : dict of str to float
        How far the labels of each dataset were moved; see `eccos_rs.train.denoise`.
    held_out : HeldOut or None
        What the hybrid forecast of the held-back queries; None without a holdout.
    """

    bundle: Bundle
    figures: dict[str, dict[str, float]]
    learned: int
    held_back: int
    shares: dict[str, float]
    held_out: HeldOut | None = None


def train_bundle(
    data: TrainingData,
    folder: Path,
    pool: Pool,
    options: TrainOptions,
    *,
    sources: Sequence[str] = (),
    progress: Progress,
    states: NDArray[np.float32] | None = None,
) -> TrainResult:
    """Train a predictor and write it as a bundle.

    Parameters
    ----------
    data : TrainingData
        Labelled queries.
    folder : Path
        Where the bundle shall lie; its last part is the bundle's name.
    pool : Pool
        Prices of the models, in column order.
    options : TrainOptions
        What to do.
    sources : sequence of str
        Where the data come from, for the model card.
    progress : callable
        Takes a label and a number of steps; a context manager that yields a function to call with steps done.
    states : ndarray of float32, shape (N, I), optional
        What `encoder_states` gave for the same queries, to train on parts of them without encoding again.

    Returns
    -------
    TrainResult

    Notes
    -----
    With a holdout and `refit` two predictors are trained: the first on the rest, for the figures; the second,
    which is written, on everything, with the back-off that the first has learned.
    """
    encoders.check_device(options.device)
    _make_reproducible(options.seed)
    texts = read_texts(data.table.query, options.max_tokens)
    every = np.arange(len(data), dtype=np.int64)
    rest, held = every, every[:0]
    if options.holdout > 0.0:
        rest, held = split_by_text(data.table, [1.0 - options.holdout, options.holdout], options.seed)
    encoder = encoders.open_encoder(options.encoder)
    if states is None:
        with progress("encoding the queries", len(data)) as done:
            states = encode_texts(encoder, texts, options.device, done)
    published = _Published(data, texts, encoder, states)

    figures: dict[str, dict[str, float]] = {}
    held_out: HeldOut | None = None
    made, learned = _train(published, rest, options, progress), rest
    if len(held):
        prompts = _prompts(made, data, texts, rest, held)
        figures = _figures(made, data, held, pool, prompts)
        held_out = _held_out(made, data, held, pool, prompts)
    if len(held) and options.refit:
        made, learned = _train(published, every, options, progress, known=made.fitted), every

    # The graph's variants are compared with float32 on queries whose labels are known; after a refit it knows
    # them too, which raises the level of both and leaves their difference.
    check = (held if len(held) else every)[: options.check_rows]
    fitted = made.fitted
    weights = predictor_weights(
        made.encoder, texts.token_kinds, fitted.metric.standardise, fitted.heads, fitted.metric.projection
    )
    with progress("checking the graph's variants", 4 * len(check)) as done:
        graphs = make_graphs(
            weights,
            [texts.ids[row] for row in check],
            data.quality[check],
            price_array(pool)[:, 1],
            on_rows=done,
        )
    bundle = export_bundle(
        folder,
        folder.name,
        fitted,
        (dict(graphs.files), graphs.encoder_table()),
        tokenizer=texts.tokenizer,
        max_tokens=options.max_tokens,
        pool=pool,
        card=model_card(
            folder.name,
            data,
            pool,
            options,
            layers=len(encoder.layers),
            learned=len(learned),
            held=len(held),
            figures=figures,
            sources=sources,
            shares=fitted.shares,
        ),
        input_tokens=_input_tokens(made, data, texts, every),
        provenance={
            "queries_learned": len(learned),
            "queries_held_back": len(held),
            **_provenance(data, options, figures, sources),
            "teacher_shares": fitted.shares,
        },
        learned_texts=[data.table.query[row] for row in learned],
    )
    return TrainResult(bundle, figures, len(learned), len(held), fitted.shares, held_out)


def encoder_states(queries: Sequence[str], options: TrainOptions, progress: Progress) -> NDArray[np.float32]:
    """Return what heads and neighbours read of queries, by the encoder of the options, (N, I)."""
    texts = read_texts(queries, options.max_tokens)
    with progress("encoding the queries", len(queries)) as done:
        return encode_texts(encoders.open_encoder(options.encoder), texts, options.device, done)


def _make_reproducible(seed: int) -> None:
    import torch

    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train small networks on one thread: more of them wait for each other longer than they work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, eq=False)
class _Published:
    """All queries as the encoder sees them before it is fine-tuned."""

    data: TrainingData
    texts: Texts
    encoder: encoders.SentenceEncoder
    states: NDArray[np.float32]


def _train(
    given: _Published,
    rows: NDArray[np.int64],
    options: TrainOptions,
    progress: Progress,
    known: Fitted | None = None,
) -> Trained:
    """Train on some rows; `known` is a predictor trained on fewer, which says how forecasts back off."""
    again = " again, on everything" if known else ""
    if options.finetune:
        from eccos_rs.train.finetune import finetune_steps, fit_finetuned

        with progress(f"fine-tuning{again}", finetune_steps(len(rows), options, known=bool(known))) as done:
            return fit_finetuned(
                given.data, given.texts, given.states, rows, options, known=known, on_step=done
            )
    part = given.data.select(rows)
    steps = training_steps(part, options, back_offs=bool(known))
    with _one_thread(), progress(f"training the heads{again}", steps) as done:
        fitted = fit_predictor(
            part, given.states[rows], options, back_offs=known.back_offs if known else None, on_step=done
        )
    return Trained(given.encoder, fitted, given.states)


def _figures(
    made: Trained, data: TrainingData, held: NDArray[np.int64], pool: Pool, prompt: NDArray[np.float64]
) -> dict[str, dict[str, float]]:
    """Judge every kind of predictor on queries it has not learned from.

    `prompt` holds the input tokens that are estimated for them, (n,) or (n, M).
    """
    table, prices, states = data.table.select(held), price_array(pool), made.states[held]
    figures = {}
    for kind in KINDS:
        forecast = made.fitted.predict(states, kind)
        cost = cost_matrix(prompt, forecast.output_tokens.astype(np.float64), prices)
        figures[kind] = (
            forecast_figures(forecast, table)
            | {"cost_error": cost_error(cost, table.cost)}
            | routing_figures(forecast, table, prices)
        )
    return figures


def _held_out(
    made: Trained, data: TrainingData, held: NDArray[np.int64], pool: Pool, prompt: NDArray[np.float64]
) -> HeldOut:
    forecast = made.fitted.predict(made.states[held], "hybrid")
    cost = cost_matrix(prompt, forecast.output_tokens.astype(np.float64), price_array(pool))
    return HeldOut(data.table.select(held), forecast.quality, cost)


def _prompts(
    made: Trained, data: TrainingData, texts: Texts, known: NDArray[np.int64], asked: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Estimate the input tokens of some rows as a bundle fitted to others would, (n,) or (n, M)."""
    estimate = InputTokenEstimate.from_table(_input_tokens(made, data, texts, known))
    embedding = made.fitted.metric.embed(made.states[asked])
    tokens = estimate(texts.pieces[asked], texts.characters[asked], embedding).astype(np.float64)
    return tokens[:, None] * np.asarray(estimate.model_factor) if estimate.model_factor else tokens


def _input_tokens(made: Trained, data: TrainingData, texts: Texts, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Fit the input tokens of some rows, overheads read off the embedding that the graph gives."""
    table = data.table.select(rows)
    return fit_input_tokens(
        texts.pieces[rows],
        texts.characters[rows],
        table.input_tokens.astype(np.float64),
        dataset=table.dataset,
        embedding=made.fitted.metric.embed(made.states[rows]),
        by_model=None if table.model_input_tokens is None else table.prompt_tokens,
    )


def _provenance(
    data: TrainingData,
    options: TrainOptions,
    figures: dict[str, dict[str, float]],
    sources: Sequence[str],
) -> dict[str, Any]:
    rounded = {
        kind: {name: round(value, 6) for name, value in values.items()} for kind, values in figures.items()
    }
    return {
        "refitted_on_everything": bool(figures) and options.refit,
        "auxiliary_models": len(data.aux_names),
        "sources": list(sources),
        "options": {**asdict(options), "encoder": Path(options.encoder).name},
        "validation": rounded,
    }
