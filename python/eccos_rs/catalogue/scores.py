"""What is known of a model from published scores: measured, told by its vendor, or filled from other boards.

The table ships (`data/scores.json`): facts with source and date, no texts. `knowledge` finds a model in it
by any spelling, and `ModelKnowledge.expected` says for any benchmark of the table what the model scores
there and how sure that is: the standard deviation is in log odds and grows from a board of the same harness
(0.08) over the vendor's own figure (0.20) and Elo (0.35) to another benchmark (about 0.5), a predecessor,
and nothing (0.65).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eccos_rs.catalogue.board import ScoreTable, score_table
from eccos_rs.catalogue.contradiction import contradictions
from eccos_rs.catalogue.factor import Strength, log_odds, share, strength
from eccos_rs.catalogue.lengths import COUNTED, VISIBLE
from eccos_rs.catalogue.lengths import verbosity as verbosity_of
from eccos_rs.catalogue.matching import Match
from eccos_rs.catalogue.models import catalogue
from eccos_rs.catalogue.names import parse_name
from eccos_rs.catalogue.score import SOURCE_SD, Score
from eccos_rs.domain.llm import benchmark_key, checked_scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eccos_rs.domain.llm import LLM

__all__ = ["REFERENCE", "ModelKnowledge", "Score", "benchmarks", "knowledge"]

REFERENCE = "mmlu_pro"
"""The benchmark that `ModelKnowledge.level` speaks of."""

_OTHER_HARNESS = 0.20
"""Added where a benchmark was run by another hand than the one whose answers forecasts are trained on."""
_NOTHING = 0.65
_PREDECESSOR = 0.40
"""Added for a model that is known by an older version of it alone."""
_ELO_CENTRE, _ELO_SCALE = 1200.0, 400 / math.log(10)


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
        Output tokens of one answer to a question like those of `REFERENCE`, hidden reasoning included: told,
        or from counts on any benchmark. None where nobody counted; `expected_tokens` then goes by the kind
        of model.
    basis : str
        What the level rests on: ``"category scores"``, ``"overall score"``, ``"other benchmarks"``,
        ``"arena"``, ``"predecessor NAME"``, ``"price"`` or ``"nothing"``.
    tokens : mapping of str to float
        Mean output tokens by benchmark, where they were counted.
    differs : str
        What differs between the model asked for and what the table knows; empty when nothing does.
    doubts : tuple of str
        Which of one's own scores contradict each other, or what is published.
    """

    name: str
    spellings: tuple[str, ...]
    scores: Mapping[str, Score]
    level: float
    level_sd: float
    mean_tokens: float | None
    basis: str
    tokens: Mapping[str, float] = field(default_factory=dict)
    differs: str = ""
    doubts: tuple[str, ...] = ()
    strength: Strength = field(default=Strength(0.0, 1.0), repr=False)
    verbosity: Strength = field(default=Strength(0.0, 1.0), repr=False)

    @property
    def note(self) -> str:
        """`differs` and `doubts` in one line."""
        return "; ".join(filter(None, (self.differs, *self.doubts)))

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
        return _expected(score_table(), benchmark, self.scores.get(benchmark), self.strength)

    def expected_tokens(self, benchmark: str = REFERENCE) -> tuple[float, float]:
        """Return the output tokens of one answer, hidden ones included, and the sd of their logarithm.

        Parameters
        ----------
        benchmark : str
            One whose tokens were counted for some models; others are taken as `REFERENCE`.
        """
        table = score_table()
        if benchmark in self.tokens:
            return self.tokens[benchmark], COUNTED
        column = table.tokens_column(benchmark)
        if column is None:
            column = table.tokens_column(REFERENCE)
        assert column is not None  # the reference is counted
        mean = math.exp(float(table.fitted.mu[column]) + self.verbosity.theta)
        return mean, math.hypot(self.verbosity.sd, float(table.fitted.sigma[column]))


def benchmarks() -> tuple[str, ...]:
    """Return the benchmarks and categories that the table can say something about, sorted."""
    table = score_table()
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

    Raises
    ------
    PoolError
        A score leaves 0 to 1, or one benchmark has two.

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
    table, left_out = score_table(), frozenset(without)
    entry = next(iter(catalogue().find(name)), None)
    if effort is None and parse_name(name).effort is None and entry is not None:
        effort = entry.default_effort
    # A name that moves ("mistral-large-latest") means the release that the catalogue says it means.
    moved = entry is not None and not parse_name(name).dated and parse_name(entry.key).dated
    matches = table.index.find(entry.key if entry is not None and moved else name, effort)
    predecessor = None if matches else table.index.predecessor(name)
    if predecessor is not None:
        matches = _widened(table.index.find(predecessor, effort), predecessor)
    entries = list(_entries(table, matches, left_out))
    listed = entry.prices.output if entry is not None and entry.prices is not None else None
    price = listed if isinstance(model, str) else model.output_price
    asked = effort or parse_name(name).effort
    thinks = asked not in ("none", "minimal") if asked is not None else entry is not None and entry.thinks
    best, tokens = _best(table, entries, thinks=thinks)
    kind = "own" if isinstance(model, str) or model.scores_source != "vendor" else "vendor"
    told = checked_scores(scores or {}, f" of model {name!r}")
    own = {benchmark_key(key): Score(value, SOURCE_SD[kind], "own", kind) for key, value in told.items()}
    known = own | {key: score for key, score in best.items() if key not in own}
    theta = _strength(table, entries, own, table.prior(price))
    level = _expected(table, REFERENCE, known.get(REFERENCE), theta)
    verbosity = verbosity_of(table, tokens, mean_tokens, reference=REFERENCE, thinks=thinks)
    if mean_tokens is None and tokens:
        reference = float(table.fitted.mu[table.tokens_column(REFERENCE) or 0])
        mean_tokens = tokens.get(REFERENCE, math.exp(reference + verbosity.theta))
    conflict = contradictions(own, best, REFERENCE)
    level_sd = math.hypot(level.sd, conflict.gap / 2)
    listed_own = {key: score for key, score in own.items() if table.reference(key) is not None}
    return ModelKnowledge(
        name=name,
        spellings=tuple(dict.fromkeys(match.spelling for match in matches)),
        scores=MappingProxyType(known),
        level=level.log_odds,
        level_sd=round(level_sd, 4),
        mean_tokens=mean_tokens,
        basis=_basis(listed_own | best, listed_own, bool(entries), predecessor, price),
        tokens=MappingProxyType(tokens),
        differs="" if not matches else matches[0].how,
        doubts=conflict.words,
        strength=theta,
        verbosity=verbosity,
    )


class _Entry(NamedTuple):
    column: int
    value: float
    match: Match


def _entries(table: ScoreTable, matches: list[Match], left_out: frozenset[str]) -> Iterable[_Entry]:
    for match in matches:
        at, values = table.models[match.spelling]
        for column, value in zip(at, values, strict=True):
            if table.columns[column].source not in left_out:
                yield _Entry(int(column), float(value), match)


def _odds(table: ScoreTable, entry: _Entry) -> float:
    if table.columns[entry.column].unit == "elo":
        return (entry.value - _ELO_CENTRE) / _ELO_SCALE
    return float(log_odds(entry.value))


def _best(
    table: ScoreTable, entries: list[_Entry], *, thinks: bool
) -> tuple[dict[str, Score], dict[str, float]]:
    """Return the surest score of each benchmark, and the mean tokens by benchmark."""
    best: dict[str, Score] = {}
    tokens: dict[str, tuple[float, float]] = {}
    for entry in entries:
        column, extra = table.columns[entry.column], entry.match.extra_sd
        if column.unit == "tokens":
            # What was counted from the text lacks what a model thought before.
            hidden = table.token_line[1] if thinks and column.source in VISIBLE else 0.0
            if extra < tokens.get(column.benchmark, (math.inf, 0.0))[0]:
                tokens[column.benchmark] = (extra, entry.value * math.exp(hidden))
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


def _widened(matches: list[Match], predecessor: str) -> list[Match]:
    return [
        Match(match.spelling, math.hypot(match.extra_sd, _PREDECESSOR), f"its predecessor {predecessor}")
        for match in matches
    ]


def _strength(
    table: ScoreTable, entries: list[_Entry], own: Mapping[str, Score], prior: tuple[float, float]
) -> Strength:
    at, y, board, extra = [], [], [], []
    for entry in entries:
        column = table.columns[entry.column]
        if column.unit in ("share", "elo"):
            at.append(entry.column)
            y.append(_odds(table, entry))
            board.append(table.board(entry.column))
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
        prior=prior,
        extra_sd=np.array(extra),
    )


def _expected(table: ScoreTable, benchmark: str, known: Score | None, theta: Strength) -> Score:
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


def _basis(
    known: Mapping[str, Score],
    own: Mapping[str, Score],
    listed: bool,
    predecessor: str | None,
    price: float | None,
) -> str:
    basis = known if predecessor is None else own
    if sum(key.startswith(f"{REFERENCE}/") for key in basis) > 1:
        return "category scores"
    if REFERENCE in basis:
        return "overall score"
    if basis:
        return "other benchmarks"
    if predecessor is not None:
        return f"predecessor {predecessor}"
    if listed:
        return "arena"
    return "price" if price else "nothing"
