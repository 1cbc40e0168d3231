"""What a collection will cost, before anything is asked."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from eccos_rs.records.collect.prompt import counted_messages, judge_messages, task_messages
from eccos_rs.records.collect.usage import message_text, most_input_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.pools.pool import LLM
    from eccos_rs.records.collect.options import CollectOptions
    from eccos_rs.records.collect.state import State
    from eccos_rs.records.collect.task import Task

__all__ = ["CollectEstimate", "ModelEstimate", "estimate_cost"]

USUAL_TOKENS = {"multiple_choice": 250, "numeric": 250, "exact": 60, "free": 400}
"""Output tokens of an answer by the kind of its task, where the journal knows none of the model."""

JUDGE_TOKENS = 10


@dataclass(frozen=True, slots=True)
class ModelEstimate:
    """One model: calls that are missing, tokens and US dollars as expected, and the most they can cost."""

    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    most_usd: float


@dataclass(frozen=True, slots=True)
class CollectEstimate:
    """What is still to be asked.

    Attributes
    ----------
    models : tuple of ModelEstimate
        Those that are asked, and the judge last.
    cost_usd : float
        US dollars as expected.
    most_usd : float
        US dollars if every answer took all tokens it may.
    spent_usd : float
        What earlier runs of the journal have spent.
    learned : bool
        Whether lengths come from the journal's answers; else they are usual ones.
    """

    models: tuple[ModelEstimate, ...]
    cost_usd: float
    most_usd: float
    spent_usd: float
    learned: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        return asdict(self)


def estimate_cost(
    tasks: Sequence[Task], models: Sequence[LLM], judge: LLM | None, state: State, options: CollectOptions
) -> CollectEstimate:
    """Estimate the cost of what `state` lacks; nothing is asked, no key is needed."""
    lengths = _lengths(state)
    rows, judged = [], 0
    for model in models:
        asked = [task for task in tasks if _missing(task, model.name, state, options)]
        judged += sum(task.kind == "free" for task in asked)
        rows.append(_model(model, asked, lengths.get(model.name), options))
    if judge is not None and judged:
        rows.append(_judging(judge, [task for task in tasks if task.kind == "free"], judged, options))
    total, most = sum(row.cost_usd for row in rows), sum(row.most_usd for row in rows)
    return CollectEstimate(tuple(rows), total, most, state.spent + state.unsure, bool(lengths))


def _missing(task: Task, model: str, state: State, options: CollectOptions) -> bool:
    limit = task.max_output_tokens or options.max_output_tokens
    return not state.is_graded(task, model) and not state.is_cut(task, model, limit)


def _lengths(state: State) -> dict[str, float]:
    """Return the mean length of the answers that are known, for each model."""
    found: dict[str, list[int]] = defaultdict(list)
    for answer in state.answers.values():
        found[answer.model].append(answer.output_tokens)
    return {model: sum(lengths) / len(lengths) for model, lengths in found.items()}


def _model(model: LLM, tasks: Sequence[Task], known: float | None, options: CollectOptions) -> ModelEstimate:
    asked = given = 0
    most = 0.0
    for task in tasks:
        messages = counted_messages(task_messages(task), dict(task.fields))
        limit = task.max_output_tokens or options.max_output_tokens
        asked += options.count("\n".join(map(message_text, messages)))
        given += round(min(USUAL_TOKENS[task.kind] if known is None else known, limit))
        most += _price(model, most_input_tokens(messages), limit)
    return ModelEstimate(model.name, len(tasks), asked, given, _price(model, asked, given), most)


def _judging(judge: LLM, tasks: Sequence[Task], calls: int, options: CollectOptions) -> ModelEstimate:
    usual = USUAL_TOKENS["free"]
    prompts = [options.count(judge_messages(task, "")[0]["content"]) + usual for task in tasks]
    asked = round(sum(prompts) / len(prompts) * calls)
    cost = _price(judge, asked, JUDGE_TOKENS * calls)
    return ModelEstimate(judge.name, calls, asked, JUDGE_TOKENS * calls, cost, 2 * cost)


def _price(model: LLM, input_tokens: float, output_tokens: float) -> float:
    return (input_tokens * model.input_price + output_tokens * model.output_price) / 1e6
