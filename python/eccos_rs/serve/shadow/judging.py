"""Grading a sample of answers under a ceiling of money."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.dialects.translate import encode, to_chat
from eccos_rs.dialects.usage import Usage, answer_cost, read_usage
from eccos_rs.domain.pricing import model_cost
from eccos_rs.errors import EccosError
from eccos_rs.pools.catalogued import llm_of_name
from eccos_rs.pools.pool import Pool
from eccos_rs.records.collect.grade import judged_score
from eccos_rs.records.collect.prompt import judge_messages
from eccos_rs.records.collect.task import Task
from eccos_rs.records.tokens import estimate_tokens
from eccos_rs.serve.body import parse_body
from eccos_rs.serve.shadow.texts import answer_text
from eccos_rs.serve.upstream import Outbound, Upstream

if TYPE_CHECKING:
    from eccos_rs.pools.pool import LLM
    from eccos_rs.serve.request import RoutingRequest

__all__ = ["Judge", "find_judge"]

_GRADE_TOKENS = 1024
"""Tokens of a grade at most: some judges think first."""
_ANSWER_TOKENS = 2048
"""Tokens of an answer that is asked for to be graded, where the client sets no limit."""
_SHOWN = 20_000
"""Characters of a request and of an answer that a judge reads."""


class NoGradeError(EccosError):
    """A model gave no answer that can be graded, or a judge no grade."""


def find_judge(name: str, pool: Pool) -> LLM:
    """Return the judge: a model of the pool, one of the catalogue, or the one of a pool file.

    Raises
    ------
    PoolError
        There is none of this name.
    """
    if name in pool.names:
        found: LLM = pool[name]
        return found
    if name.endswith(".toml"):
        own = Pool.load(Path(name))
        first: LLM = own[0]
        return first
    return llm_of_name(name)


class Judge:
    """Asks models for answers nobody else sees, and a judge for grades.

    Parameters
    ----------
    judge : LLM
    pool : Pool
        Whose models may be asked for answers.
    """

    def __init__(self, judge: LLM, pool: Pool) -> None:
        self._judge = judge
        self._pool = pool
        everybody = pool if judge in pool else Pool([*pool.select(_other(pool, judge)), judge])
        self._upstream = Upstream(everybody)

    def open(self) -> None:
        """Get ready, on the running event loop."""
        self._upstream.open()

    async def close(self) -> None:
        """Close every connection."""
        await self._upstream.close()

    def most(self, wanted: RoutingRequest, other: str | None) -> float:
        """Return US dollars that grading a request may take at most, and an answer of `other` before it."""
        asked = estimate_tokens(wanted.query.prompt) + wanted.query.attached_tokens
        dollars = 0.0
        if other is not None:
            dollars += model_cost(self._pool[other], 2 * asked, _longest(wanted))
        each = model_cost(self._judge, 2 * asked + _longest(wanted) + 500, _GRADE_TOKENS)
        return dollars + each * (1 if other is None else 2)

    async def ask(self, wanted: RoutingRequest, model: str) -> tuple[str, float]:
        """Return the answer of a model to a request, and what it cost.

        Raises
        ------
        EccosError
            It gave none.
        """
        assert wanted.chat is not None  # what is passed through is not judged
        kept = {
            name: value
            for name, value in wanted.chat.values.items()
            if name not in ("stream", "stream_options")
        }
        limits = [name for name in ("max_completion_tokens", "max_tokens") if name in kept]
        for name in limits or ["max_tokens"]:
            kept[name] = _longest(wanted)
        return await self._answer(self._pool[model], kept)

    async def grade(self, wanted: RoutingRequest, text: str) -> tuple[float, float]:
        """Return a grade in [0, 1], and what it cost.

        Raises
        ------
        EccosError
            The judge gave none.
        """
        task = Task(query=wanted.query.prompt[-_SHOWN:], kind="free", answers=())
        messages = judge_messages(task, text[:_SHOWN])
        said, cost = await self._answer(self._judge, {"messages": messages, "max_tokens": _GRADE_TOKENS})
        score = judged_score(said)
        if score is None:
            raise NoGradeError(f"the judge {self._judge.name} gave no score")
        return score, cost

    async def _answer(self, llm: LLM, values: dict[str, Any]) -> tuple[str, float]:
        values = {**values, "model": llm.name}
        outbound = Outbound(parse_body(encode(values)), "chat", to_chat(values, "chat"))
        reply = await self._upstream.send(llm.name, outbound)
        if reply.status >= 300 or reply.whole is None:
            raise NoGradeError(f"{llm.name} refused with status {reply.status}")
        usage = None
        with suppress(ValueError, RecursionError):
            usage = read_usage(json.loads(reply.whole))
        text = answer_text(reply.whole, streamed=False)
        asked = estimate_tokens(json.dumps(values, ensure_ascii=False))
        told = Usage(asked, estimate_tokens(text))
        cost = answer_cost(llm, told if usage is None else usage.over(told))
        return text, model_cost(llm, asked, _GRADE_TOKENS) if cost is None else cost


def _other(pool: Pool, judge: LLM) -> list[str]:
    return [name for name in pool.names if name != judge.name]


def _longest(wanted: RoutingRequest) -> int:
    return min(wanted.query.max_output_tokens or _ANSWER_TOKENS, _ANSWER_TOKENS)
