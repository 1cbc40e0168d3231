"""An exam of a pool: public questions with known answers, asked of every model, graded by rule.

The files are those that their makers publish (MMLU-Pro, GSM8K), or task files. Of a question that the
shipped boards know, the known models' answers carry the result to the whole board; of others the plain means
count.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.catalogue.exam import Board, ExamScores, boards, question_key, scores_of_answers
from eccos_rs.catalogue.scores import knowledge
from eccos_rs.domain.pricing import model_cost
from eccos_rs.errors import InputError, RecordError
from eccos_rs.records import read_records
from eccos_rs.records.check import Place
from eccos_rs.records.collect import CollectOptions, collect_async
from eccos_rs.records.collect.task import Task, read_tasks
from eccos_rs.records.files import iter_rows
from eccos_rs.records.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eccos_rs.pools.pool import LLM, Pool
    from eccos_rs.records.collect import CollectSummary, Progress

__all__ = ["ExamPlan", "ExamResult", "plan_exam", "read_questions", "run_exam"]

_ANSWER_TOKENS = 600.0
"""Output tokens of one answer, of a model that nothing is told of: it is asked to think aloud."""
_PLAIN_SD = 1.5
"""Log odds by which categories may differ where no board tells how hard they are."""
_FEWEST = 30
"""Answers without which a model is not given scores."""


@dataclass(frozen=True, slots=True)
class ExamPlan:
    """What an exam will ask and about what it will cost.

    Parameters
    ----------
    tasks : tuple of Task
        The questions, stratified by category.
    cost : dict of str to float
        US dollars expected of each model.
    recognised : int
        Questions that a shipped board knows.
    """

    tasks: tuple[Task, ...]
    cost: dict[str, float]
    recognised: int

    @property
    def total(self) -> float:
        """US dollars expected of all models together."""
        return sum(self.cost.values())


@dataclass(frozen=True, slots=True)
class ExamResult:
    """How an exam ended.

    Parameters
    ----------
    pool : Pool
        With the scores of every model that answered enough.
    scores : dict of str to ExamScores
        By model, over all boards.
    left_out : dict of str to int
        Models that answered too few questions, and how many.
    summary : CollectSummary
        Money, answers, failures.
    """

    pool: Pool
    scores: dict[str, ExamScores]
    left_out: dict[str, int]
    summary: CollectSummary


def read_questions(path: str | Path) -> list[Task]:
    """Read a file of questions with known answers.

    Parameters
    ----------
    path : path
        MMLU-Pro as it is published (``question``, ``options``, ``answer``, ``category``), GSM8K
        (``question``, ``answer`` with ``####`` before the number), or a task file (see `read_tasks`); JSONL,
        JSON, CSV or Parquet.

    Raises
    ------
    RecordError
        A row is malformed, or a question has no answer that a rule can grade.
    """
    path = Path(path)
    _, first = next(iter(iter_rows(path)), (0, {}))
    if not first:
        raise RecordError(f"{path}: holds no question")
    if "query" in first:
        tasks = read_tasks(path)
    else:
        tasks = [_published(row, Place(path.name, number)) for number, row in iter_rows(path)]
    free = sum(task.kind == "free" for task in tasks)
    if free:
        raise RecordError(f"{path}: {free} questions are of kind 'free'; an exam is graded by rule")
    return list({task.digest: task for task in tasks}.values())


def _published(row: dict[str, Any], place: Place) -> Task:
    question, answer = row.get("question"), row.get("answer")
    if not isinstance(question, str) or answer is None:
        raise place.fail("wanted question and answer, or the columns of a task file")
    if options := row.get("options"):
        category = re.sub(r"[^a-z]+", "_", str(row.get("category", "other")).lower())
        choices = tuple(str(option) for option in options)
        return Task(question, "multiple_choice", (str(answer),), choices, f"mmlu_pro/{category}")
    number = str(answer).rpartition("####")[2].strip().replace(",", "")
    try:
        float(number)
    except ValueError:
        raise place.at("answer").fail("wanted a number behind ####, or options to choose from") from None
    return Task(question, "numeric", (number,), (), "gsm8k")


def plan_exam(tasks: Sequence[Task], pool: Pool, questions: int, max_cost: float | None = None) -> ExamPlan:
    """Choose the questions, and say about what they cost.

    Parameters
    ----------
    tasks : sequence of Task
    pool : Pool
    questions : int
        How many, of all categories by their share. A longer exam asks those of a shorter one and more.
    max_cost : float, optional
        US dollars; fewer questions are chosen where they would cost more.

    Raises
    ------
    InputError
        Not even the fewest questions that give a score are paid for.
    """
    if questions < _FEWEST:
        raise InputError(f"questions must be at least {_FEWEST}, got {questions}")
    chosen = _stratified(tasks, questions)
    plan = _planned(chosen, pool)
    if max_cost is not None and plan.total > max_cost:
        fits = int(len(chosen) * max_cost / plan.total)
        if fits < min(_FEWEST, len(chosen)):
            raise InputError(
                f"max_cost must reach for {_FEWEST} questions, about "
                f"{plan.total * _FEWEST / len(chosen):.2f} US dollars for these {len(pool)} models; "
                f"got {max_cost:g}"
            )
        plan = _planned(_stratified(tasks, fits), pool)
    return plan


def _stratified(tasks: Sequence[Task], n: int) -> list[Task]:
    """Return n questions in an order that only their hashes set: each category by its share."""
    known = {key for board in boards().values() for key in board.keys.tolist()}
    groups: dict[str, list[tuple[bool, int, Task]]] = {}
    for task in tasks:
        key = question_key(task.query, task.choices)
        # Questions that the boards know first: they carry the result to the whole board.
        groups.setdefault(task.dataset, []).append((key not in known, key, task))
    chosen: list[tuple[bool, int, Task]] = []
    for group in groups.values():
        group.sort(key=lambda each: each[:2])
        chosen += group[: max(round(n * len(group) / len(tasks)), 1)]
    # Categories mixed: where an exam breaks off, what was answered is a fair sample of the whole.
    return [task for *_, task in sorted(chosen, key=lambda each: each[1])]


def _planned(tasks: Sequence[Task], pool: Pool) -> ExamPlan:
    prompt = float(np.mean([estimate_tokens(task.text) + 30 for task in tasks]))
    known = {key for board in boards().values() for key in board.keys.tolist()}
    return ExamPlan(
        tuple(tasks),
        {model.name: len(tasks) * model_cost(model, prompt, _answer_tokens(model)) for model in pool},
        sum(question_key(task.query, task.choices) in known for task in tasks),
    )


def _answer_tokens(model: LLM) -> float:
    told = knowledge(model).mean_tokens
    return max(_ANSWER_TOKENS, told) if told is not None else _ANSWER_TOKENS


def run_exam(
    plan: ExamPlan,
    pool: Pool,
    records: str | Path,
    *,
    options: CollectOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ExamResult:
    """Ask, grade, and say what every model scores.

    Parameters
    ----------
    plan : ExamPlan
    pool : Pool
        With endpoints.
    records : path
        Where the graded answers go; beside it lies the journal, from which a run that was stopped goes on.
    options : CollectOptions, optional
    progress : callable, optional

    Raises
    ------
    RecordError, PoolError
        As `collect`.
    """
    summary = asyncio.run(collect_async(plan.tasks, pool, records, options=options, progress=progress))
    keys = {task.text: question_key(task.query, task.choices) for task in plan.tasks}
    found = {name: _Answers() for name in pool.names}
    for record in read_records(records) if summary.records else ():
        for output in record.outputs:
            found[output.model].add(keys[record.query], record.dataset, output.quality, output.output_tokens)
    scores: dict[str, ExamScores] = {}
    left_out: dict[str, int] = {}
    for name, answers in found.items():
        if len(answers.quality) < min(_FEWEST, len(plan.tasks)):
            left_out[name] = len(answers.quality)
            continue
        scores[name] = answers.scores()
        pool = pool.with_scores(
            name,
            {key: round(value, 4) for key, value in scores[name].scores.items()},
            mean_tokens=round(float(np.mean(answers.tokens)), 1) or None,
            source=f"exam of {len(answers.quality)} questions",
        )
    return ExamResult(pool, scores, left_out, summary)


class _Answers:
    """One model's graded answers."""

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.datasets: list[str] = []
        self.quality: list[float] = []
        self.tokens: list[float] = []

    def add(self, key: int, dataset: str, quality: float, tokens: float) -> None:
        self.keys.append(key)
        self.datasets.append(dataset)
        self.quality.append(quality)
        self.tokens.append(tokens)

    def scores(self) -> ExamScores:
        told = ExamScores({}, {}, len(self.quality))
        left = set(range(len(self.keys)))
        for board in boards().values():
            where = {int(key): at for at, key in enumerate(board.keys.tolist())}
            own = [at for at, key in enumerate(self.keys) if key in where]
            if len(own) >= _FEWEST:
                left -= set(own)
                part = scores_of_answers(
                    board,
                    np.array([where[self.keys[at]] for at in own]),
                    np.array([self.quality[at] for at in own]),
                )
                told = replace(told, scores=told.scores | part.scores, sd=told.sd | part.sd)
        plain = self._plain(sorted(left))
        return replace(told, scores=plain.scores | told.scores, sd=plain.sd | told.sd)

    def _plain(self, rows: list[int]) -> ExamScores:
        """Return the means by data set of questions that no board knows, drawn a little together."""
        if not rows:
            return ExamScores({}, {}, 0)
        names = tuple(sorted({self.datasets[at] for at in rows}))
        category = np.array([names.index(self.datasets[at]) for at in rows], dtype=np.uint8)
        top = names[0].partition("/")[0]
        name = top if all(each.partition("/")[0] == top for each in names) else "exam"
        # A board without known models: the line is flat, what is left is level and category.
        board = Board(
            name, np.zeros(len(rows), dtype=np.uint64), category, names, np.ones((len(rows), 2), bool), ()
        )
        quality = np.array([self.quality[at] for at in rows])
        return scores_of_answers(board, np.arange(len(rows)), quality, category_sd=_PLAIN_SD)
