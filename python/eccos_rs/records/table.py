"""Records as columns: what training and evaluation work on."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eccos_rs.domain.validation import did_you_mean
from eccos_rs.errors import InputError, MissingExtraError, RecordError
from eccos_rs.records.grouping import normalise, text_groups
from eccos_rs.records.read import read_records
from eccos_rs.records.record import Output, Prices, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    import pandas as pd

__all__ = ["RecordTable", "require_disjoint", "split_by_text"]


@dataclass(frozen=True)
class RecordTable:
    """N queries and M models, one row per query and one column per model.

    Attributes
    ----------
    query, dataset : list of str, length N
        Text and source of each query.
    id : list of str or None, length N
        Ids as the file had them.
    models : tuple of str, length M
        Column order of the matrices.
    quality : ndarray, shape (N, M), float32
        In [0, 1]; NaN where a model was not asked.
    output_tokens : ndarray, shape (N, M), float32
        Tokens; NaN where a model was not asked.
    input_tokens : ndarray, shape (N,), int64
        Tokens.
    cost : ndarray, shape (N, M), float64
        US dollars for the one call; NaN where a model was not asked.
    model_input_tokens : ndarray, shape (N, M), float32, or None
        Tokens of the prompt as each model counted them, where that is not the row's `input_tokens`; NaN
        elsewhere. None when no model states its own; see `prompt_tokens`.
    """

    query: list[str]
    dataset: list[str]
    id: list[str | None]
    models: tuple[str, ...]
    quality: npt.NDArray[np.float32]
    output_tokens: npt.NDArray[np.float32]
    input_tokens: npt.NDArray[np.int64]
    cost: npt.NDArray[np.float64]
    model_input_tokens: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.query)

    def __repr__(self) -> str:
        share = float(np.isfinite(self.quality).mean()) if self.quality.size else 0.0
        return f"RecordTable({len(self)} queries, {len(self.models)} models, {share:.1%} observed)"

    @property
    def prompt_tokens(self) -> npt.NDArray[np.float64]:
        """Input tokens of each query at each model, (N, M): the model's own count, else the row's."""
        usual = np.repeat(self.input_tokens[:, None].astype(np.float64), len(self.models), axis=1)
        own = self.model_input_tokens
        return usual if own is None else np.where(np.isfinite(own), own, usual)

    @classmethod
    def read(
        cls,
        path: str | Path,
        models: Sequence[str] | None = None,
        *,
        quality_scale: float = 1.0,
        ignore: Collection[str] = (),
        prices: Prices | None = None,
    ) -> RecordTable:
        """Read a file in the record form or the tidy form.

        Parameters
        ----------
        path : path
            As for `read_records`.
        models : sequence of str, optional
            Keep these columns, in this order; by default every model, in the order of first appearance.
        quality_scale, ignore, prices
            As for `read_records`.

        Raises
        ------
        RecordError
            As `read_records`, or an empty file, or a name in `models` that the file does not have.
        """
        records = read_records(path, quality_scale=quality_scale, ignore=ignore, prices=prices)
        table = cls.from_records(records)
        if not len(table):
            raise RecordError(f"{path}: holds no record")
        return table if models is None else table.select_models(models)

    @classmethod
    def from_records(cls, records: Iterable[Record]) -> RecordTable:
        """Gather records; models come in the order of first appearance."""
        query: list[str] = []
        dataset: list[str] = []
        ids: list[str | None] = []
        input_tokens = array("q")
        columns: dict[str, int] = {}
        rows, cols = array("q"), array("q")
        values = {name: array("d") for name in ("quality", "output_tokens", "cost", "own")}
        for record in records:
            row = len(query)
            query.append(record.query)
            dataset.append(record.dataset)
            ids.append(record.id)
            input_tokens.append(record.input_tokens)
            for output in record.outputs:
                rows.append(row)
                cols.append(columns.setdefault(output.model, len(columns)))
                values["quality"].append(output.quality)
                values["output_tokens"].append(output.output_tokens)
                values["cost"].append(output.cost_usd)
                values["own"].append(np.nan if output.input_tokens is None else output.input_tokens)
        shape = (len(query), len(columns))
        matrices = {name: np.full(shape, np.nan) for name in values}
        for name, flat in values.items():
            matrices[name][np.asarray(rows, dtype=np.int64), np.asarray(cols, dtype=np.int64)] = np.asarray(
                flat
            )
        return cls(
            query, dataset, ids, tuple(columns),
            matrices["quality"].astype(np.float32), matrices["output_tokens"].astype(np.float32),
            np.asarray(input_tokens, dtype=np.int64), matrices["cost"],
            matrices["own"].astype(np.float32) if np.isfinite(matrices["own"]).any() else None,
        )  # fmt: skip

    def records(self) -> Iterator[Record]:
        """Yield the rows as records again; a row without any observed model is left out."""
        seen = np.isfinite(self.quality)
        for row in range(len(self)):
            outputs = tuple(
                Output(
                    self.models[col], float(self.quality[row, col]),
                    int(self.output_tokens[row, col]), float(self.cost[row, col]), self._own(row, int(col)),
                )
                for col in np.flatnonzero(seen[row])
            )  # fmt: skip
            if outputs:
                tokens = int(self.input_tokens[row])
                yield Record(self.query[row], self.dataset[row], tokens, outputs, self.id[row])

    def to_pandas(self) -> pd.DataFrame:
        """Return the tidy form as a data frame: a row for each query and model that was asked.

        The columns are those of a tidy file, so that ``frame.to_parquet`` writes one that is read again. A
        query without an id is called by its row, from 1.

        Raises
        ------
        MissingExtraError
            pandas is not installed.

        Examples
        --------
        >>> table = RecordTable.from_records([Record("2 + 2?", "sums", 5, (Output("m", 1.0, 12, 1e-5),))])
        >>> table.to_pandas()[["query_id", "model", "quality"]].values.tolist()
        [['1', 'm', 1.0]]
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtraError("to_pandas needs pandas: pip install pandas") from None
        rows, cols = np.nonzero(np.isfinite(self.quality))
        ids = [str(at) if name is None else name for at, name in enumerate(self.id, start=1)]
        return pd.DataFrame(
            {
                "query_id": [ids[row] for row in rows],
                "dataset": [self.dataset[row] for row in rows],
                "query": [self.query[row] for row in rows],
                "model": [self.models[col] for col in cols],
                "quality": self.quality[rows, cols].astype(np.float64),
                "input_tokens": self.prompt_tokens[rows, cols].astype(np.int64),
                "output_tokens": self.output_tokens[rows, cols].astype(np.int64),
                "cost_usd": self.cost[rows, cols],
            }
        )

    def _own(self, row: int, col: int) -> int | None:
        own = np.nan if self.model_input_tokens is None else self.model_input_tokens[row, col]
        return int(own) if np.isfinite(own) else None

    def select(self, rows: npt.ArrayLike) -> RecordTable:
        """Keep the rows with these indices, in this order, or where this mask is true."""
        index = np.asarray(rows)
        if index.dtype == bool:
            if index.shape != (len(self),):
                raise InputError(f"rows: got a mask of shape {index.shape}, wanted ({len(self)},)")
            index = np.flatnonzero(index)
        index = index.astype(np.int64, casting="same_kind") if index.size else np.zeros(0, np.int64)
        if index.size and not (-len(self) <= index.min() and index.max() < len(self)):
            raise InputError(f"rows: got {index.min()} to {index.max()}, wanted 0 to {len(self) - 1}")
        places = index.tolist()
        return RecordTable(
            [self.query[i] for i in places], [self.dataset[i] for i in places], [self.id[i] for i in places],
            self.models, self.quality[index], self.output_tokens[index], self.input_tokens[index],
            self.cost[index], None if self.model_input_tokens is None else self.model_input_tokens[index],
        )  # fmt: skip

    @classmethod
    def joined(cls, tables: Sequence[RecordTable]) -> RecordTable:
        """Put tables of the same models below each other."""
        if len({table.models for table in tables}) != 1:
            raise InputError("tables: got different models, wanted the same in the same order")
        return cls(
            [each for table in tables for each in table.query],
            [each for table in tables for each in table.dataset],
            [each for table in tables for each in table.id],
            tables[0].models,
            np.concatenate([table.quality for table in tables]),
            np.concatenate([table.output_tokens for table in tables]),
            np.concatenate([table.input_tokens for table in tables]),
            np.concatenate([table.cost for table in tables]),
            _joined_counts(tables),
        )

    def select_models(self, models: Sequence[str]) -> RecordTable:
        """Keep the columns with these names, in this order."""
        place = {name: index for index, name in enumerate(self.models)}
        for name in models:
            if name not in place:
                hint = did_you_mean(name, self.models, otherwise="it has")
                raise RecordError(f"models: the data set has no model {name!r}{hint}")
        if len(set(models)) < len(models):
            raise RecordError(f"models: got {list(models)}, wanted each name once")
        cols = [place[name] for name in models]
        return RecordTable(
            self.query, self.dataset, self.id, tuple(models),
            self.quality[:, cols], self.output_tokens[:, cols], self.input_tokens, self.cost[:, cols],
            None if self.model_input_tokens is None else self.model_input_tokens[:, cols],
        )  # fmt: skip


def _joined_counts(tables: Sequence[RecordTable]) -> npt.NDArray[np.float32] | None:
    if all(table.model_input_tokens is None for table in tables):
        return None
    unknown = (np.full(table.quality.shape, np.nan, dtype=np.float32) for table in tables)
    parts = [
        none if table.model_input_tokens is None else table.model_input_tokens
        for table, none in zip(tables, unknown, strict=True)
    ]
    return np.concatenate(parts)


def split_by_text(
    table: RecordTable, fractions: Sequence[float], seed: int, *, threshold: float = 0.8
) -> list[npt.NDArray[np.int64]]:
    """Split the rows at random so that the same question, or nearly the same, never stands on two sides.

    Parameters
    ----------
    table : RecordTable
        N rows.
    fractions : sequence of float
        Share of each part; they add up to 1.
    seed : int
        The same seed gives the same split, on every machine.
    threshold : float, default 0.8
        See `eccos_rs.records.text_groups`.

    Returns
    -------
    list of ndarray of int64
        Row indices of each part, ascending; together they are all rows. Each dataset is spread by the same
        fractions, as far as its groups allow.

    Raises
    ------
    InputError
        Fractions that are negative or do not add up to 1.

    Examples
    --------
    >>> answer = (Output("m", 1.0, 5, 0.0),)
    >>> texts = ["One?", "two?", "one", "Three?"]
    >>> table = RecordTable.from_records(Record(text, "d", 3, answer) for text in texts)
    >>> parts = split_by_text(table, [0.5, 0.5], seed=0)
    >>> {0, 2} <= set(parts[0].tolist()) or {0, 2} <= set(parts[1].tolist())
    True
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if (
        shares.ndim != 1
        or not shares.size
        or (shares < 0).any()
        or not np.isclose(shares.sum(), 1.0, atol=1e-6)
    ):
        raise InputError(f"fractions: got {list(fractions)}, wanted shares of 0 or more that add up to 1")
    groups = text_groups(table.query, threshold=threshold)
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(row)
    strata: dict[str, list[list[int]]] = {}
    for rows in members.values():
        strata.setdefault(table.dataset[rows[0]], []).append(rows)
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in fractions]
    for name in sorted(strata):
        _deal(strata[name], shares, rng.permutation, parts)
    return [np.array(sorted(part), dtype=np.int64) for part in parts]


def _deal(
    groups: list[list[int]],
    shares: npt.NDArray[np.float64],
    permutation: Callable[[int], npt.NDArray[np.int64]],
    parts: list[list[int]],
) -> None:
    """Deal one dataset's groups: each goes to the part that lacks most, large ones first."""
    order = sorted(permutation(len(groups)).tolist(), key=lambda index: -len(groups[index]))
    wanted = shares * sum(len(group) for group in groups)
    dealt = np.zeros(len(shares))
    # Rounding must not favour the first part in each of many small datasets: a shuffled order breaks ties.
    turn = permutation(len(shares))
    for index in order:
        lack = np.where(shares > 0, wanted - dealt, -np.inf)
        part = int(max(turn, key=lambda candidate: lack[candidate]))
        parts[part].extend(groups[index])
        dealt[part] += len(groups[index])


def require_disjoint(train: RecordTable, test: RecordTable, *, threshold: float = 0.8) -> None:
    """Refuse two tables that share a question.

    Raises
    ------
    RecordError
        With how many test rows have the same or nearly the same text as a training row, and the first such
        pair.
    """
    groups = text_groups([*train.query, *test.query], threshold=threshold)
    first: dict[int, int] = {}
    for row, group in enumerate(groups[: len(train)].tolist()):
        first.setdefault(group, row)
    leaks = [(row, first[group]) for row, group in enumerate(groups[len(train) :].tolist()) if group in first]
    if leaks:
        row, other = leaks[0]
        kind = (
            "the same" if normalise(test.query[row]) == normalise(train.query[other]) else "nearly the same"
        )
        raise RecordError(
            f"test: {len(leaks)} of {len(test)} rows have a text that stands in train too; "
            f"the first is row {row + 1}, {kind} as row {other + 1} of train ({test.query[row][:60]!r}); "
            "split one table with split_by_text instead"
        )
