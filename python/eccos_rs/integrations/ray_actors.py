"""What the actors of `eccos_rs.integrations.ray` do: predict blocks of rows, and make passes over parts."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.bulk.certificate import shard_figures
from eccos_rs.bulk.columns import GIVEN, as_text
from eccos_rs.bulk.passes import Rows, choose, quality_at, quality_sum, sample_shard, sum_shard
from eccos_rs.bulk.source import Part
from eccos_rs.errors import EccosError
from eccos_rs.records.files import replacing
from eccos_rs.routing.router import Router

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from eccos_rs.bulk.certificate import ShardFigures
    from eccos_rs.bulk.joint import JointAnswer
    from eccos_rs.bulk.passes import DecisionPrices, Goal, Sums
    from eccos_rs.bulk.queries import RowReader
    from eccos_rs.bulk.source import Source
    from eccos_rs.routing.policy import Policy

__all__ = ["PartWorker", "RowPredictor", "read_file", "read_rows", "telling"]

PREFIX = "_eccos_"
"""Before the columns that carry predictions from one stage to the next."""


@contextmanager
def telling(told: Path) -> Iterator[None]:
    """Leave what is wrong with a row in the file `told`: of an exception, Ray keeps only a page of text."""
    try:
        yield
    except EccosError as error:
        said = {"kind": type(error).__name__, "sentence": str(error)}
        with replacing(told) as beside:
            beside.write_text(json.dumps(said), encoding="utf-8")
        raise


def read_file(batch: Any, source: Source, told: Path, texts: bool) -> Iterator[Any]:
    """Yield the rows of a file in blocks: file, row, and the rows' own columns, as texts where asked for."""
    import pyarrow as pa

    for name in batch["path"].to_pylist():
        with telling(told):
            for part in replace(source, files=[Path(name)]).parts():
                if not isinstance(part, Part) or not part.queries:
                    continue
                size = len(part.queries)
                columns = {
                    "file": pa.array([part.file.name] * size),
                    "row": pa.array(range(part.first + 1, part.first + 1 + size)),
                }
                if part.own is None or not part.own.column_names:
                    columns["query"] = pa.array([query.prompt for query in part.queries])
                else:
                    for key, column in zip(part.own.column_names, part.own.columns, strict=True):
                        cells = pa.array(map(as_text, column.to_pylist()), pa.string()) if texts else column
                        columns[f"{GIVEN}{key}" if key in columns else key] = cells
                yield pa.table(columns)


class RowPredictor:
    """Predicts batches of rows, beside the rows' own columns."""

    def __init__(
        self, router: Router | Callable[[], Router], policy: Policy, reader: RowReader, told: Path
    ) -> None:
        self.router = router if isinstance(router, Router) else router()
        self.policy, self.reader, self.told = policy, reader, told

    def __call__(self, batch: Any) -> Any:
        """Return a block of rows with their predictions; what is wrong with a row is left in `told`."""
        with telling(self.told):
            return self._predicted(batch)

    def _predicted(self, batch: Any) -> Any:
        import pyarrow as pa

        queries = [
            self.reader.row(f"row {at + 1} of a block of {len(batch):,}", row).query
            for at, row in enumerate(batch.to_pylist())
        ]
        problem = self.router.problem(self.router.predict(queries), queries, self.policy)
        arrays = {
            "cost": problem.cost,
            "quality": problem.quality,
            "output_tokens": problem.output_tokens.astype(np.float32),
            "allowed": problem.allowed.astype(np.uint8),
        }
        table = batch.append_column(f"{PREFIX}input_tokens", pa.array(problem.input_tokens))
        for name, array in arrays.items():
            flat = pa.array(np.ascontiguousarray(array).reshape(-1))
            column = pa.FixedSizeListArray.from_arrays(flat, len(self.router.pool))
            table = table.append_column(f"{PREFIX}{name}", column)
        return table


class PartWorker:
    """Owns some shards, by number and file: keeps their costs, qualities and allowed pairs."""

    def __init__(self, shards: list[tuple[int, str]]) -> None:
        self.shards = [(number, file, read_rows(file)) for number, file in shards]

    def rows(self) -> list[int]:
        """Return the rows of each shard that some model may take."""
        return [int(rows.allowed.any(axis=1).sum()) for _, _, rows in self.shards]

    def sample(self, share: float, seed: int) -> list[Rows]:
        """See `Passes`."""
        return [sample_shard(rows, share, seed, number) for number, _, rows in self.shards]

    def sums(
        self,
        goal: Goal,
        prices: DecisionPrices,
        covariance: NDArray[np.float64],
        share: float,
        list_rows: bool,
    ) -> list[Sums]:
        """See `Passes`."""
        return [
            sum_shard(rows, goal, prices, covariance, share=share, seed=number, list_rows=list_rows)
            for number, _, rows in self.shards
        ]

    def quality_sums(self) -> list[NDArray[np.float64]]:
        """See `Passes`."""
        return [quality_sum(rows) for _, _, rows in self.shards]

    def quality_at(self, score: NDArray[np.float64]) -> list[float]:
        """See `Passes`."""
        return [quality_at(rows, score) for _, _, rows in self.shards]

    def write(
        self,
        answer: JointAnswer,
        settled: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
        names: list[str],
        out: str,
    ) -> list[ShardFigures]:
        """Write each shard's rows with their choices into the folder `out`; return what they add up to."""
        import pyarrow.parquet as pq

        found, prices = [], answer.bound_prices or answer.prices
        for (_, file, rows), some in zip(self.shards, settled, strict=True):
            model = choose(rows, answer.goal, answer.prices, some)
            table = _routed(pq.read_table(file), rows, model, names)
            with replacing(Path(out) / Path(file).name) as beside:
                pq.write_table(table, beside, compression="zstd")
            digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
            found.append(shard_figures(rows, model, answer.goal, prices, digest))
        return found


def _routed(table: Any, rows: Rows, model: NDArray[np.int64], names: list[str]) -> Any:
    """Return a part's choices beside the rows' own columns."""
    import pyarrow as pa

    at, none = np.arange(len(model)), model < 0
    tokens = _matrix(table, "output_tokens", len(names))
    columns = {
        "model": pa.array(names, type=pa.string()).take(pa.array(np.where(none, 0, model), mask=none)),
        "quality": pa.array(rows.quality[at, model].astype(np.float64), mask=none),
        "input_tokens": table.column(f"{PREFIX}input_tokens"),
        "output_tokens": pa.array(tokens[at, model].astype(np.float64), mask=none),
        "cost": pa.array(rows.cost[at, model], mask=none),
    }
    for name in table.column_names:
        if not name.startswith(PREFIX):
            columns[f"{GIVEN}{name}" if name in columns else name] = table.column(name)
    return pa.table(columns)


def _matrix(table: Any, name: str, models: int) -> NDArray[Any]:
    column = table.column(f"{PREFIX}{name}").combine_chunks()
    flat: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, models)


def read_rows(file: str | os.PathLike[str]) -> Rows:
    """Read the predictions of a part as the solver needs them."""
    import pyarrow.parquet as pq

    names = [f"{PREFIX}{name}" for name in ("cost", "quality", "allowed")]
    table = pq.read_table(file, columns=names)
    models = table.schema.field(names[0]).type.list_size
    return Rows(
        np.array(_matrix(table, "cost", models), dtype=np.float64),
        np.array(_matrix(table, "quality", models), dtype=np.float32),
        np.array(_matrix(table, "allowed", models), dtype=np.bool_),
    )
