"""What is known of a model from published scores: measured, told by its vendor, or filled from other boards.

The table ships (`data/scores.json`): facts with source and date, no texts. `knowledge` finds a model in it
by any spelling, and `ModelKnowledge.expected` says for any benchmark of the table what the model scores
there and how sure that is: the standard deviation is in log odds and grows from a board of the same harness
(0.08) over the vendor's own figure (0.20) and Elo (0.35) to another benchmark (about 0.5), a predecessor,
and nothing (0.65).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eccos_rs.catalogue.factor import Columns, Strength, log_odds, share, strength
from eccos_rs.catalogue.matching import Match, NameIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from eccos_rs.routing.pool import LLM

__all__ = ["REFERENCE", "ModelKnowledge", "Score", "benchmarks", "knowledge"]

REFERENCE = "mmlu_pro"
"""The benchmark that `ModelKnowledge.level` speaks of."""

SOURCE_SD = {"answers": 0.08, "board": 0.08, "own": 0.15, "vendor": 0.20, "elo": 0.35}
"""Standard deviation in log odds of one score, by the kind of its source: what the same model would score
elsewhere under the harness named. ``answers`` are means over the labelled questions that forecasts are
trained on."""
_OTHER_HARNESS = 0.20
"""Added where a benchmark was run by another hand than the one whose answers forecasts are trained on."""
_NOTHING = 0.65
_ELO_CENTRE, _ELO_SCALE = 1200.0, 400 / math.log(10)


@dataclass(frozen=True, slots=True)
class Score:
    """A model's score on a benchmark.

    Parameters
    ----------
    value : float
        Share of the questions answered well, 0 to 1.
    sd : float
        Standard deviation of its log odds under the harness that forecasts are trained on.
    source : str
        Who measured it: a board's id, ``"vendor"``, ``"own"``, or ``"filled"`` for the factor model's
        estimate.
    kind : str
        ``"answers"``, ``"board"``, ``"vendor"``, ``"own"`` or ``"filled"``.
    date : str, optional
        Of the board's release, as far as it is known.
    note : str
        What differs from the model asked for (``"effort high"``, ``"release 20241120"``); empty for the
        model itself.
    """

    value: float
    sd: float
    source: str
    kind: str
    date: str | None = None
    note: str = ""

    @property
    def log_odds(self) -> float:
        """The log odds of the value."""
        return float(log_odds(self.value))


@dataclass(frozen=True, slots=True)
class ModelKnowledge:
    """What is known of one model before any label.

    Parameters
    ----------
    name : str
        As it was asked for.
    spellings : tuple of str
        The names of the table that stand for it, the surest first; empty when the table does not know it.
    scores : mapping of str to Score
        By benchmark or benchmark and category (``"mmlu_pro"``, ``"mmlu_pro/law"``, ``"livebench/coding"``):
        the surest score of each, measured or told. What is missing is filled by `expected`.
    level, level_sd : float
        Log odds of the model's mean on `REFERENCE`, and their standard deviation.
    mean_tokens : float, optional
        Output tokens of one answer, told or measured over the table's benchmarks; None when nothing is known.
    basis : str
        What the level rests on: ``"category scores"``, ``"overall score"``, ``"other benchmarks"``,
        ``"arena"``, ``"predecessor NAME"`` or ``"nothing"``.
    tokens : mapping of str to float
        Mean output tokens by benchmark, where they were counted.
    note : str
        What differs between the model asked for and what the table knows; empty when nothing does.
    """

    name: str
    spellings: tuple[str, ...]
    scores: Mapping[str, Score]
    level: float
    level_sd: float
    mean_tokens: float | None
    basis: str
    tokens: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    strength: Strength = field(default=Strength(0.0, 1.0), repr=False)

    def expected(self, benchmark: str) -> Score:
        """Return what the model scores on a benchmark: measured, told, filled, or any blend of these.

        Parameters
        ----------
        benchmark : str
            One of `benchmarks`.

        Returns
        -------
        Score
            Its ``sd`` is that of the log odds under the harness of the labelled answers.

        Raises
        ------
        KeyError
            No board lists it.
        """
        return _expected(_table(), benchmark, self.scores.get(benchmark), self.strength)


class _Column(NamedTuple):
    source: str
    date: str
    benchmark: str
    unit: str


@dataclass(frozen=True, slots=True)
class _Table:
    sources: dict[str, dict[str, str]]
    columns: tuple[_Column, ...]
    fitted: Columns
    models: dict[str, tuple[NDArray[np.intp], NDArray[np.float64]]]
    index: NameIndex
    by_benchmark: dict[str, tuple[int, ...]]
    boards: dict[str, int]

    def kind(self, column: int) -> str:
        return self.sources[self.columns[column].source]["kind"]

    def reference(self, benchmark: str) -> int | None:
        """Return the fitted column that stands for a benchmark: the labelled answers', else the newest."""
        rank = {"answers": 0, "board": 1, "vendor": 2, "elo": 3}
        fitted = [c for c in self.by_benchmark.get(benchmark, ()) if np.isfinite(self.fitted.lam[c])]
        return max(fitted, key=lambda c: (-rank[self.kind(c)], self.columns[c].date), default=None)


@lru_cache(maxsize=1)
def _table() -> _Table:
    raw = json.loads(files("eccos_rs.catalogue").joinpath("data/scores.json").read_bytes())
    columns = tuple(_Column(*row[:4]) for row in raw["columns"])
    fitted = Columns(*(np.array([row[at] for row in raw["columns"]], dtype=np.float64) for at in (4, 5, 6)))
    models = {
        name: (np.array(at, dtype=np.intp), np.array(values, dtype=np.float64))
        for name, (at, values) in raw["models"].items()
    }
    by_benchmark: dict[str, tuple[int, ...]] = {}
    for at, column in enumerate(columns):
        if column.unit != "tokens":
            by_benchmark[column.benchmark] = (*by_benchmark.get(column.benchmark, ()), at)
    boards: dict[str, int] = {}
    for column in columns:
        boards.setdefault(column.source.removesuffix("-prompt"), len(boards))
    return _Table(
        raw["sources"], columns, fitted, models, NameIndex(models, raw["bases"]), by_benchmark, boards
    )


def benchmarks() -> tuple[str, ...]:
    """Return the benchmarks and categories that the table can say something about, sorted."""
    table = _table()
    return tuple(sorted(name for name in table.by_benchmark if table.reference(name) is not None))


def knowledge(
    model: str | LLM,
    *,
    effort: str | None = None,
    scores: Mapping[str, float] | None = None,
    mean_tokens: float | None = None,
    without: Iterable[str] = (),
) -> ModelKnowledge:
    """Return what is known of a model before any label.

    Parameters
    ----------
    model : str or LLM
        By any spelling: ``"openai/gpt-5-mini"``, ``"Claude Sonnet 4.5 (high)"``. An LLM's own effort, scores
        and mean tokens go before the table's.
    effort : str, optional
        The reasoning effort, where neither the spelling nor the LLM tells it.
    scores : mapping of str to float, optional
        One's own scores by benchmark, 0 to 1; they go before the table's.
    mean_tokens : float, optional
        One's own mean of output tokens.
    without : iterable of str
        Sources of the table to leave out (``"mmlu-pro"``), so that a forecast can be judged on their
        questions.

    Returns
    -------
    ModelKnowledge
        Of a model that no board lists too: its ``basis`` says ``"nothing"`` and its ``level_sd`` is 0.65.

    Examples
    --------
    >>> known = knowledge("openai/gpt-5-mini")
    >>> known.basis, 0.5 < known.expected("mmlu_pro").value < 0.95
    ('other benchmarks', True)
    >>> knowledge("no-such-model").basis
    'nothing'
    """
    if not isinstance(model, str):
        effort = effort or model.effort
        scores = {**(model.scores or {}), **(scores or {})}
        mean_tokens = model.mean_tokens if mean_tokens is None else mean_tokens
    name = model if isinstance(model, str) else model.identity
    table, left_out = _table(), frozenset(without)
    matches = table.index.find(name, effort)
    entries = list(_entries(table, matches, left_out))
    best, tokens = _best(table, entries)
    kind = "own" if isinstance(model, str) or model.scores_source != "vendor" else "vendor"
    own = {key: Score(value, SOURCE_SD[kind], kind, kind) for key, value in (scores or {}).items()}
    known = own | {key: score for key, score in best.items() if key not in own}
    theta = _strength(table, entries, own)
    level = _expected(table, REFERENCE, known.get(REFERENCE), theta)
    note = "" if not matches else matches[0].how
    return ModelKnowledge(
        name=name,
        spellings=tuple(dict.fromkeys(match.spelling for match in matches)),
        scores=MappingProxyType(known),
        level=level.log_odds,
        level_sd=level.sd,
        mean_tokens=mean_tokens if mean_tokens is not None else _mean(tokens),
        basis=_basis(known, bool(entries)),
        tokens=MappingProxyType(tokens),
        note=note,
        strength=theta,
    )


class _Entry(NamedTuple):
    column: int
    value: float
    match: Match


def _entries(table: _Table, matches: list[Match], left_out: frozenset[str]) -> Iterable[_Entry]:
    for match in matches:
        at, values = table.models[match.spelling]
        for column, value in zip(at, values, strict=True):
            if table.columns[column].source not in left_out:
                yield _Entry(int(column), float(value), match)


def _odds(table: _Table, entry: _Entry) -> float:
    if table.columns[entry.column].unit == "elo":
        return (entry.value - _ELO_CENTRE) / _ELO_SCALE
    return float(log_odds(entry.value))


def _best(table: _Table, entries: list[_Entry]) -> tuple[dict[str, Score], dict[str, float]]:
    """Return the surest score of each benchmark, and the mean tokens by benchmark."""
    best: dict[str, Score] = {}
    tokens: dict[str, tuple[float, float]] = {}
    for entry in entries:
        column, extra = table.columns[entry.column], entry.match.extra_sd
        if column.unit == "tokens":
            if extra < tokens.get(column.benchmark, (math.inf, 0.0))[0]:
                tokens[column.benchmark] = (extra, entry.value)
            continue
        if column.unit != "share":
            continue
        kind = table.kind(entry.column)
        reference = table.reference(column.benchmark)
        other = (
            _OTHER_HARNESS
            if kind == "board" and reference is not None and table.kind(reference) == "answers"
            else 0.0
        )
        sd = math.hypot(SOURCE_SD[kind], extra, other)
        score = Score(entry.value, round(sd, 4), column.source, kind, column.date or None, entry.match.how)
        held = best.get(column.benchmark)
        if held is None or (score.sd, _reversed(score.date)) < (held.sd, _reversed(held.date)):
            best[column.benchmark] = score
    return best, {name: value for name, (_, value) in tokens.items()}


def _reversed(date: str | None) -> tuple[int, ...]:
    """Sort key that puts the newest date first."""
    return tuple(-ord(letter) for letter in date or "")


def _strength(table: _Table, entries: list[_Entry], own: Mapping[str, Score]) -> Strength:
    at, y, board, extra = [], [], [], []
    for entry in entries:
        column = table.columns[entry.column]
        if column.unit in ("share", "elo"):
            at.append(entry.column)
            y.append(_odds(table, entry))
            board.append(table.boards[column.source.removesuffix("-prompt")])
            extra.append(entry.match.extra_sd)
    for benchmark, score in own.items():
        column_at = table.reference(benchmark)
        if column_at is not None:
            at.append(column_at)
            y.append(score.log_odds)
            board.append(len(table.boards))
            extra.append(score.sd)
    return strength(
        table.fitted,
        np.array(at, dtype=np.intp),
        np.array(y),
        np.array(board, dtype=np.intp),
        extra_sd=np.array(extra),
    )


def _expected(table: _Table, benchmark: str, known: Score | None, theta: Strength) -> Score:
    column = table.reference(benchmark)
    if column is None:
        if known is None:
            raise KeyError(f"no board lists the benchmark {benchmark!r}")
        return known
    mu, lam, sigma = table.fitted.mu[column], table.fitted.lam[column], table.fitted.sigma[column]
    filled, variance = float(mu + lam * theta.theta), float(sigma**2 + (lam * theta.sd) ** 2)
    if known is None:
        return Score(
            float(share(filled)), round(min(math.sqrt(variance), max(_NOTHING, sigma)), 4), "filled", "filled"
        )
    weight = variance / (variance + known.sd**2)
    odds = weight * known.log_odds + (1 - weight) * filled
    sd = math.sqrt(variance * known.sd**2 / (variance + known.sd**2))
    return Score(float(share(odds)), round(sd, 4), known.source, known.kind, known.date, known.note)


def _mean(tokens: Mapping[str, float]) -> float | None:
    return math.exp(sum(map(math.log, tokens.values())) / len(tokens)) if tokens else None


def _basis(known: Mapping[str, Score], listed: bool) -> str:
    if sum(key.startswith(f"{REFERENCE}/") for key in known) > 1:
        return "category scores"
    if REFERENCE in known:
        return "overall score"
    if known:
        return "other benchmarks"
    return "arena" if listed else "nothing"
