"""One run of a collection: every task to every model, once, under the money ceiling."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.pricing import model_cost
from eccos_rs.records.collect.earlier import EarlierCalls, stamp
from eccos_rs.records.collect.endpoint import Caller, CallError, ModelReply
from eccos_rs.records.collect.grade import judged_score
from eccos_rs.records.collect.money import SpendLedger
from eccos_rs.records.collect.options import CollectOptions, CollectSummary, Progress, Stopped
from eccos_rs.records.collect.prompt import counted_messages, judge_messages, task_messages
from eccos_rs.records.collect.usage import CallUsage, check_usage, most_input_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eccos_rs.records.collect.journal import Journal
    from eccos_rs.records.collect.money import Reservation
    from eccos_rs.records.collect.state import State
    from eccos_rs.records.collect.task import Task
    from eccos_rs.records.collect.turns import CallTurn

__all__ = ["CollectRun"]

JUDGE_TOKENS = 256
JUDGE_TRIES = 2
MOST_FAILURES = 20
MOST_IN_A_ROW = 5
"""Calls of one endpoint that fail one after another, after all their attempts, before it is left alone; and
answers without a score, before any score, before a judge is."""


@dataclass(slots=True)
class CollectRun:
    """One run over what is still to be asked.

    Attributes
    ----------
    state, log : State and Journal
        What is known, and where it is written first.
    callers : dict
        Model name to its endpoint.
    judge : Caller or None
        Who grades `free` tasks.
    earlier : EarlierCalls
        What the journal says of calls within the last minute.
    found, wanted, done, failed : int
        (task, model) pairs: there at the start, in all, there now, given up in this run.
    """

    state: State
    log: Journal
    options: CollectOptions
    callers: dict[str, Caller]
    judge: Caller | None
    progress: Callable[[Progress], None] | None
    earlier: EarlierCalls = field(default_factory=EarlierCalls)
    ledger: SpendLedger = field(default_factory=SpendLedger)
    found: int = 0
    wanted: int = 0
    done: int = 0
    failed: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    _scores: int = 0
    _no_scores: int = 0

    async def all(self, tasks: Sequence[Task]) -> None:
        """Ask what is missing; each model has its own workers, so a slow one does not hold up the others."""
        judge = {} if self.judge is None else {self.judge.model.name: self.judge}
        self.earlier.count({**judge, **self.callers})
        for call, amount in list(self.state.open.items()):
            # A kill cut these off: the server may have charged for them.
            event = {"event": "unsure", "call": call, "unsure_usd": amount, "error": "cut off"}
            await self._record({**event, **self.earlier.cut_off(call)})
        self.ledger.ceiling = self.options.max_cost
        self.ledger.spent, self.ledger.unsure = self.state.spent, self.state.unsure
        queues = {
            name: deque(task for task in tasks if not self._is_over(task, name)) for name in self.callers
        }
        self.wanted = len(tasks) * len(self.callers)
        self.found = self.done = sum(
            self.state.is_graded(task, name) for name in self.callers for task in tasks
        )
        self._tell()
        try:
            async with asyncio.TaskGroup() as group:
                for name, queue in queues.items():
                    for _ in range(min(self.callers[name].slots, len(queue))):
                        group.create_task(self._work(self.callers[name], queue))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def summary(self, records: int) -> CollectSummary:
        """Say how the run ended."""
        stopped: Stopped = "done"
        twice = self.state.second_grades()
        answers = self.state.answers.values()
        cut = sum(answer.cut is not None for answer in answers if answer.model in self.callers)
        if self.done < self.wanted:
            left = self.wanted - self.done
            stopped = "max_cost" if self.ledger.closed else "cut" if cut >= left else "failed"
        return CollectSummary(
            stopped=stopped,
            wanted=self.wanted,
            answered=self.done,
            found=self.found,
            spent_usd=self.state.spent,
            unsure_usd=self.state.unsure,
            flagged=sum(answer.flag is not None for answer in answers if answer.model in self.callers),
            failures=self.failures,
            records=records,
            cut=cut,
            judged_twice=len(twice),
            judge_std=math.sqrt(sum((a - b) ** 2 for a, b in twice) / (2 * len(twice))) if twice else None,
        )

    def _is_over(self, task: Task, model: str) -> bool:
        if self.state.is_graded(task, model):
            return not self.state.wants_second(task, model)
        return self.state.is_cut(task, model, self._longest(task))

    async def _work(self, caller: Caller, queue: deque[Task]) -> None:
        while queue and not self.ledger.closed:
            if caller.fatal is not None:
                self._fail(f"{caller.model.name}: {caller.fatal}", len(queue))
                queue.clear()
                break
            task = queue.popleft()
            if task.kind == "free" and self.judge is not None and self.judge.fatal is not None:
                # An answer that nobody grades is money for nothing.
                self._fail(self.judge.fatal)
                continue
            call = _Call(f"{task.digest}:{caller.model.name}", caller, task)
            done = self.state.is_graded(task, caller.model.name)
            try:
                if await self._pair(call):
                    self.done += not done
            except CallError as error:
                self._fail(str(error))
                await self._record({"event": "failed", "call": call.name, "error": str(error)})
            self._tell()

    async def _pair(self, call: _Call) -> bool:
        """Get one model's answer to one task, and its grade; False when the money does not reach."""
        task, model = call.task, call.caller.model.name
        known = self.state.answers.get((task.digest, model))
        if known is None or known.cut is not None:
            call.messages, call.longest = task_messages(task), self._longest(task)
            call.fields = dict(task.fields)
            got = await self._ask(call, beside=self._judging_most(task))
            if got is None:
                return False
            reply, usage, cost = got
            await self._record(
                {
                    "event": "answered",
                    "call": call.name,
                    "task": task.digest,
                    "model": model,
                    "text": reply.text,
                    "input_tokens": usage.input_tokens,
                    "output_tokens": usage.output_tokens,
                    "cost_usd": cost,
                    "flag": usage.flag,
                    "finish": reply.finish,
                    "limit": call.longest,
                    "seconds": round(reply.seconds, 3),
                    **stamp(usage.tokens),
                }
            )
        if self.state.is_cut(task, model, self._longest(task)):
            return False
        if task.kind != "free":
            return True
        if not self.state.is_graded(task, model) and not await self._judge(task, model):
            return False
        if self.state.wants_second(task, model):
            # What the grade is worth is told by another one of the same answer; without it nothing is lost.
            with suppress(CallError):
                await self._judge(task, model, again="again-")
        return True

    async def _judge(self, task: Task, model: str, *, again: str = "") -> bool:
        if self.judge is None:
            raise CallError("there is no judge")
        messages = judge_messages(task, self.state.answers[task.digest, model].text or "")
        for attempt in range(1, JUDGE_TRIES + 1):
            name = f"{again}judge{attempt}:{task.digest}:{model}"
            got = await self._ask(_Call(name, self.judge, task, messages, JUDGE_TOKENS))
            if got is None:
                return False
            reply, usage, cost = got
            quality = judged_score(reply.text)
            event: dict[str, Any] = {"call": name, "task": task.digest, "model": model}
            event |= {
                "judge": self.judge.model.name,
                "text": reply.text,
                "cost_usd": cost,
                **stamp(usage.tokens),
            }
            if quality is not None:
                self._scores += 1
                kind = "rejudged" if again else "judged"
                await self._record({"event": kind, **event, "quality": quality})
                return True
            await self._record({"event": "failed", **event, "error": "no score"})
        self._no_scores += 1
        problem = f"the judge {self.judge.model.name} gave no score in {JUDGE_TRIES} tries"
        if not self._scores and self._no_scores >= MOST_IN_A_ROW and self.judge.fatal is None:
            said = " ".join(reply.text.split())[:80]
            self.judge.fatal = f"{problem} for {self._no_scores} answers; it said {said!r}"
        raise CallError(problem)

    async def _ask(self, call: _Call, *, beside: float = 0.0) -> tuple[ModelReply, CallUsage, float] | None:
        """Make one call, again where that may help; None when the money does not reach.

        `beside` must still fit when this call has cost its most (the grading of its answer).
        """
        attempts = self.options.retry.attempts
        for attempt in range(1, attempts + 1):
            async with call.caller.turn(call.counted, call.longest) as turn:
                held = await self.ledger.reserve(call.most + beside)
                if held is None:
                    return None
                with self.ledger.hold(held):
                    try:
                        got = await self._attempt(call, held, turn)
                        call.caller.in_a_row = 0
                        return got
                    except CallError as error:
                        await self._unanswered(call, error, held, turn)
                        if error.again and attempt == attempts:
                            _count_failure(call.caller, error)
                        if not error.again or attempt == attempts:
                            raise CallError(f"{call.caller.model.name}: {error}") from error
                        pause = self.options.retry.wait(attempt + 1, error.wait)
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self, call: _Call, held: Reservation, turn: CallTurn
    ) -> tuple[ModelReply, CallUsage, float]:
        caller = call.caller
        asked = {"event": "asked", "call": call.name, "model": caller.model.name, "hold_usd": call.most}
        await self._record({**asked, **stamp(turn.tokens)})
        reply = await caller.ask(
            call.messages,
            turn,
            longest=call.longest,
            temperature=self.options.temperature,
            key=call.name,
            fields=call.fields,
        )
        usage = check_usage(
            reply.usage, call.counted, reply.text, longest=call.longest, count=self.options.count
        )
        turn.used = usage.tokens
        caller.sizes.learn(call.counted, usage)
        cost = model_cost(caller.model, usage.input_tokens, usage.output_tokens)
        held.spend(cost)
        return reply, usage, cost

    async def _unanswered(self, call: _Call, error: CallError, held: Reservation, turn: CallTurn) -> None:
        unsure = held.doubt(call.most) if error.charged else 0.0
        event = {"event": "unsure", "call": call.name, "unsure_usd": unsure, "error": str(error)}
        await self._record({**event, **stamp(turn.counted)})

    def _longest(self, task: Task) -> int:
        return task.max_output_tokens or self.options.max_output_tokens

    def _judging_most(self, task: Task) -> float:
        if task.kind != "free" or self.judge is None:
            return 0.0
        # The answer is part of what the judge reads; its bytes bound its tokens, at some 8 bytes per token.
        asked = most_input_tokens(judge_messages(task, "")) + 8 * self._longest(task)
        return model_cost(self.judge.model, asked, JUDGE_TOKENS)

    async def _record(self, event: dict[str, Any]) -> None:
        await self.log.append(event)
        self.state.apply(event)

    def _fail(self, error: str, pairs: int = 1) -> None:
        self.failed += pairs
        if error in self.failures or len(self.failures) < MOST_FAILURES:
            self.failures[error] = self.failures.get(error, 0) + pairs

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(Progress(self.done, self.wanted, self.state.spent, self.failed))


def _count_failure(caller: Caller, error: CallError) -> None:
    """Leave an endpoint alone that has given no answer for a while: it is gone."""
    caller.in_a_row += 1
    if caller.in_a_row >= MOST_IN_A_ROW and caller.fatal is None:
        caller.fatal = f"{caller.in_a_row} calls in a row brought no answer, the last: {error}"


@dataclass(slots=True)
class _Call:
    """One question to one endpoint, whoever's it is; `name` is the same whenever it is asked."""

    name: str
    caller: Caller
    task: Task
    messages: list[dict[str, Any]] = field(default_factory=list)
    longest: int = 0
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def counted(self) -> list[dict[str, Any]]:
        """All that is sent, as messages whose tokens can be counted."""
        return counted_messages(self.messages, self.fields)

    @property
    def most(self) -> float:
        """The most it can cost, US dollars."""
        return model_cost(self.caller.model, most_input_tokens(self.counted), self.longest)
