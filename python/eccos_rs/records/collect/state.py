"""What a journal says: which calls are done, what they cost, and what is still to be asked."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import RecordError
from eccos_rs.records.collect.grade import grade
from eccos_rs.records.record import Output, Record
from eccos_rs.records.tidy import with_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eccos_rs.records.collect.task import Task

__all__ = ["Answer", "State"]

CUT_OFF = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "MAX_TOKENS"})
"""Why an answer ended, as servers say it where the limit of tokens was reached."""


@dataclass(slots=True)
class Answer:
    """One model's answer to one task.

    `quality` is None while a judge has not spoken; `text` is kept only until then. `cut` is the limit, in
    tokens, that cut the answer off: it is neither right nor wrong, and asked again under a higher limit.
    `again` is the judge's second grade, where it was asked for one.
    """

    task: str
    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float
    flag: str | None
    quality: float | None = None
    text: str | None = None
    cut: int | None = None
    again: float | None = None

    @property
    def output(self) -> Output:
        """What a record holds of it."""
        return Output(self.model, self.quality or 0.0, self.output_tokens, self.cost_usd, self.input_tokens)


@dataclass(slots=True)
class State:
    """Everything that is known of a collection; events change it in the order of the journal.

    Attributes
    ----------
    tasks : dict
        Digest to task.
    judge : str or None
        Who grades `free` tasks.
    answers : dict
        (digest, model) to answer.
    spent, unsure : float
        US dollars, over all runs: of the answers that came, and what calls without an answer may have cost
        at most.
    open : dict
        Call to the amount that was held for it; what is still open when a journal is read was cut off by a
        kill.
    grade_cut : bool
        Whether answers that the limit cut off are graded as they stand.
    twice : float
        Share of the judge's grades that it is asked for a second time.
    """

    tasks: dict[str, Task]
    judge: str | None = None
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    spent: float = 0.0
    unsure: float = 0.0
    open: dict[str, float] = field(default_factory=dict)
    grade_cut: bool = False
    twice: float = 0.0

    @classmethod
    def of(
        cls, tasks: Iterable[Task], judge: str | None = None, *, grade_cut: bool = False, twice: float = 0.0
    ) -> State:
        """Start from the tasks alone."""
        return cls({task.digest: task for task in tasks}, judge, grade_cut=grade_cut, twice=twice)

    def apply(self, event: dict[str, Any]) -> None:
        """Take in one event; an unknown one is left aside, so that newer journals can be read."""
        call = event.get("call", "")
        kind = event.get("event")
        if kind == "asked":
            self.open[call] = float(event["hold_usd"])
            return
        if kind not in ("answered", "judged", "rejudged", "unsure", "failed"):
            return
        self.open.pop(call, None)
        self.spent += float(event.get("cost_usd", 0.0))
        self.unsure += float(event.get("unsure_usd", 0.0))
        if kind == "answered":
            self._answered(event)
        elif kind == "judged":
            self._judged(event)
        elif kind == "rejudged" and (event["task"], event["model"]) in self.answers:
            self.answers[event["task"], event["model"]].again = event["quality"]

    def wants_second(self, task: Task, model: str) -> bool:
        """Tell whether the judge shall grade an answer a second time: a fixed share of all, by lot."""
        answer = self.answers.get((task.digest, model))
        if answer is None or answer.quality is None or answer.again is not None or answer.text is None:
            return False
        lot = zlib.crc32(f"{task.digest}:{model}".encode()) / 2**32
        return task.kind == "free" and lot < self.twice

    def second_grades(self) -> list[tuple[float, float]]:
        """Return the judge's two grades of each answer that it graded twice."""
        answers = self.answers.values()
        return [(a.quality, a.again) for a in answers if a.quality is not None and a.again is not None]

    def is_graded(self, task: Task, model: str) -> bool:
        """Tell whether a pair is done: answered, and graded."""
        answer = self.answers.get((task.digest, model))
        return answer is not None and answer.quality is not None

    def is_cut(self, task: Task, model: str, limit: int) -> bool:
        """Tell whether the answer was cut off under this limit of tokens, or a higher one."""
        answer = self.answers.get((task.digest, model))
        return answer is not None and answer.cut is not None and answer.cut >= limit

    def _answered(self, event: dict[str, Any]) -> None:
        answer = Answer(
            task=event["task"],
            model=event["model"],
            input_tokens=event["input_tokens"],
            output_tokens=event["output_tokens"],
            cost_usd=event["cost_usd"],
            flag=event.get("flag"),
        )
        task = self.tasks.get(answer.task)
        if task is None:
            # Of a task that was taken out of the file: its money counts, its answer does not.
            return
        if event.get("finish") in CUT_OFF and not self.grade_cut:
            answer.cut = int(event.get("limit") or 0)
        elif task.kind == "free":
            answer.text = event["text"]
        else:
            answer.quality = grade(task, event["text"])
        self.answers[answer.task, answer.model] = answer

    def _judged(self, event: dict[str, Any]) -> None:
        answer = self.answers.get((event["task"], event["model"]))
        if answer is None:
            return
        if event["judge"] != self.judge:
            raise RecordError(
                f"the journal holds grades of the judge {event['judge']!r}, this run has {self.judge!r}; "
                "grades of both must not be mixed: use the same judge, or another journal"
            )
        answer.quality = event["quality"]
        if not self.wants_second(self.tasks[event["task"]], event["model"]):
            answer.text = None

    def records(self, models: Sequence[str]) -> Iterable[Record]:
        """Yield a record for each task with a graded answer; tasks and models in the order given."""
        for number, (digest, task) in enumerate(self.tasks.items(), start=1):
            found = [self.answers.get((digest, model)) for model in models]
            graded = [answer for answer in found if answer is not None and answer.quality is not None]
            if not graded:
                continue
            query = Record(task.text, task.dataset, 0, (), task.id or f"{task.dataset}/{number}")
            yield with_counts(query, [answer.output for answer in graded])
