"""Routers for one evaluation, trained on a part of the data that is then not judged."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.records import RecordTable
    from eccos_rs.train.options import TrainOptions

    Progress = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]

__all__ = ["train_folds", "train_part"]


@contextmanager
def train_part(
    table: RecordTable,
    fraction: float,
    *,
    progress: Progress,
    aux: Sequence[Path] = (),
    pool: Path | None = None,
    options: TrainOptions | None = None,
    seed: int = 0,
    folder: Path | None = None,
) -> Iterator[tuple[Bundle, npt.NDArray[np.bool_]]]:
    """Train a bundle on a part of the data; give it, and which rows it was trained on.

    Parameters
    ----------
    table : RecordTable
        The data.
    fraction : float
        Share to train on, split by text.
    progress : callable
        As for `eccos_rs.train.pipeline.train_bundle`.
    aux : sequence of Path
        Files with further models' answers to the same queries, as extra targets.
    pool : Path, optional
        Prices; by default those that the costs in the data tell.
    options : TrainOptions, optional
        How to train. Nothing is held back for figures: the rest of the data is there for that.
    seed : int
        Of the split and of the training.
    folder : Path, optional
        Where the bundle is kept, as ``bundle``; by default it goes when the block ends.

    Yields
    ------
    Bundle
    ndarray of bool, shape (N,)
        Rows that were trained on.
    """
    from eccos_rs.records import RecordTable, split_by_text
    from eccos_rs.train.options import TrainOptions

    learned, _ = split_by_text(table, [fraction, 1.0 - fraction], seed)
    seen = np.zeros(len(table), dtype=np.bool_)
    seen[learned] = True
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "bundle" if folder is None else folder / "bundle"
        others = [(path.stem, RecordTable.read(path)) for path in aux]
        options = options or TrainOptions(holdout=0.0, seed=seed)
        part = table.select(learned)
        yield _train(part, others, place, progress=progress, pool=pool, options=options), seen


def train_folds(
    table: RecordTable,
    folds: int,
    *,
    progress: Progress,
    aux: Sequence[Path] = (),
    pool: Path | None = None,
    options: TrainOptions | None = None,
    seed: int = 0,
) -> Iterator[tuple[Bundle, npt.NDArray[np.bool_]]]:
    """Give a bundle for each fold of the data, trained on all other folds, and which rows those are.

    The parameters are those of `train_part`; `folds` is at least 2. The encoder runs once for all. A bundle
    is gone when the next one is asked for.
    """
    from eccos_rs.records import RecordTable, split_by_text
    from eccos_rs.train.options import TrainOptions

    if folds < 2:
        raise InputError(f"folds: got {folds}, wanted 2 or more")
    options = options or TrainOptions(holdout=0.0, seed=seed, check_rows=300)
    _need_torch()
    from eccos_rs.train.pipeline import encoder_states

    others = [(path.stem, RecordTable.read(path)) for path in aux]
    states = encoder_states(table.query, options, progress)
    for out in split_by_text(table, [1.0 / folds] * folds, seed):
        seen = np.ones(len(table), dtype=np.bool_)
        seen[out] = False
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch) / "bundle"
            part = table.select(seen)
            made = _train(
                part, others, place, progress=progress, pool=pool, options=options, states=states[seen]
            )
            yield made, seen


def _need_torch() -> None:
    try:
        import torch  # noqa: F401 - only to tell early which extra is missing
    except ImportError:
        raise MissingExtraError(
            "training for an evaluation needs torch: pip install 'eccos-rs[train]'"
        ) from None


def _train(
    table: RecordTable,
    aux: Sequence[tuple[str, RecordTable]],
    place: Path,
    *,
    progress: Progress,
    pool: Path | None,
    options: TrainOptions,
    states: npt.NDArray[np.float32] | None = None,
) -> Bundle:
    _need_torch()
    from eccos_rs.train.data import training_data
    from eccos_rs.train.pipeline import train_bundle
    from eccos_rs.train.prices import pool_for

    return train_bundle(
        training_data(table, aux), place, pool_for(table, pool), options, progress=progress, states=states
    ).bundle
