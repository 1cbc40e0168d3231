"""What a caller holds while a model works for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.predict.familiarity import familiarity
from eccos_rs.routing.warnings import LIKE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Future
    from types import TracebackType

    from eccos_rs.pools.pool import LLM
    from eccos_rs.session.conversations import Turn
    from eccos_rs.session.limits.base import Grant
    from eccos_rs.session.request import PendingRequest

__all__ = ["FeedbackReceipt", "Lease", "LeaseReport"]


class FeedbackReceipt:
    """Says when feedback is durable in the store: ``await`` it, or ask `result` from another thread.

    Without feedback, or without a durable store, it is done at once.
    """

    __slots__ = ("_future",)

    def __init__(self, future: Future[Any] | None = None) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, None]:
        if self._future is not None:
            import asyncio

            yield from asyncio.shield(asyncio.wrap_future(self._future)).__await__()

    def result(self, timeout: float | None = None) -> None:
        """Wait, blocking, until the feedback is durable.

        Parameters
        ----------
        timeout : float, optional
            Seconds.

        Raises
        ------
        StoreError
            The store did not take it.
        InputError
            The store knows no such lease.
        TimeoutError
            It took longer than `timeout`.
        """
        if self._future is not None:
            self._future.result(timeout)

    @property
    def done(self) -> bool:
        """True once it is decided, either way."""
        return self._future is None or self._future.done()


@dataclass(frozen=True, slots=True)
class LeaseReport:
    """What became of a lease, as its holder says.

    Attributes
    ----------
    output_tokens, quality, cost : float or None
        As in `Lease.release`.
    failed : bool
        There was no answer.
    blamed : bool
        The model is to blame for that.
    cancelled : bool
        The lease was never used.
    dropped : bool
        The lease was collected without a release.
    input_tokens, cached_tokens : float or None
        As in `Lease.release`.
    """

    output_tokens: float | None = None
    quality: float | None = None
    cost: float | None = None
    failed: bool = False
    blamed: bool = False
    cancelled: bool = False
    dropped: bool = False
    input_tokens: float | None = None
    cached_tokens: float | None = None


class Lease:
    """A model's slot, with what was expected of it, until `release`.

    Made by `Session.acquire`; also a context manager, which gives the slot back on every way out (as
    failed when an exception leaves the block). A lease that is dropped without either gives its slot back
    when it is collected, with a `ResourceWarning`.

    Attributes
    ----------
    id : str
        For `Session.feedback`; not to be guessed.
    index, runner : int
        The model's place in the pool, and the runner-up's; -1 when the query was deferred, or for none.
    granted : float
        When, on the session's clock.
    retry_after : float or None
        Seconds after which a deferred query may fit.
    turn : Turn or None
        Of its conversation, where the query is a turn of one.
    """

    __slots__ = (
        "__weakref__",
        "_on_release",
        "_receipt",
        "_request",
        "expected",
        "grant",
        "granted",
        "id",
        "index",
        "prices",
        "retry_after",
        "runner",
        "turn",
    )

    def __init__(
        self,
        request: PendingRequest,
        *,
        id: str,
        granted: float,
        on_release: Callable[[Lease, LeaseReport], FeedbackReceipt] | None = None,
        grant: Grant | None = None,
        runner: int = -1,
        expected: float = 0.0,
        prices: tuple[float, float] = (0.0, 0.0),
        retry_after: float | None = None,
    ) -> None:
        self._request = request
        self._on_release = on_release
        self._receipt: FeedbackReceipt | None = None
        self.id = id
        self.grant = grant
        self.index = -1 if grant is None else grant.model
        self.runner = runner
        self.expected = expected  # predicted success, corrected by what feedback says of the model
        self.granted = granted
        self.prices = prices
        self.retry_after = retry_after
        self.turn: Turn | None = None

    @property
    def conversation(self) -> str:
        """``"kept"`` or ``"moved"``: at, or away from, the conversation's model; ``"chosen"``: by itself."""
        return "chosen" if self.turn is None else self.turn.how(self.model)

    @property
    def deferred(self) -> bool:
        """True when no model was found in time; try again in `retry_after` seconds."""
        return self.index < 0

    @property
    def llm(self) -> LLM | None:
        """The model, with its prices and its endpoint; None when deferred."""
        return None if self.index < 0 else self._request.pool[self.index]

    @property
    def model(self) -> str | None:
        """The model's name; None when deferred."""
        return None if self.index < 0 else self._request.pool[self.index].name

    @property
    def predicted_quality(self) -> float:
        """Expected success, in [0, 1], as the predictor gave it; 0 when deferred."""
        return float(self._request.quality[self.index]) if self.index >= 0 else 0.0

    @property
    def costs(self) -> list[float]:
        """Expected US dollars by model, in the order of the pool."""
        return [float(value) for value in self._request.cost]

    @property
    def forecasts(self) -> list[float]:
        """Expected success by model, in the order of the pool."""
        return [float(value) for value in self._request.quality]

    @property
    def output_tokens(self) -> float:
        """Expected output tokens; 0 when deferred."""
        return float(self._request.output_tokens[self.index]) if self.index >= 0 else 0.0

    @property
    def input_tokens(self) -> int:
        """Estimated prompt tokens."""
        return self._request.input_tokens

    @property
    def similarity(self) -> float | None:
        """Cosine similarity of the nearest query with known outcomes; None where that is not predicted."""
        return self._request.similarity

    @property
    def familiar(self) -> float | None:
        """How like known ground the query is, 0 to 1; None where the predictor does not say."""
        return None if self.similarity is None else float(familiarity(np.array([self.similarity]))[0])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the forecasts do not rest on, in sentences; empty where there is nothing to say."""
        if self.familiar is None or self.familiar >= LIKE:
            return ()
        return ("this query is unlike anything learned; its figures rest on each model's mean",)

    @property
    def cost(self) -> float:
        """Expected US dollars; 0 when deferred."""
        return float(self._request.cost[self.index]) if self.index >= 0 else 0.0

    @property
    def runner_up(self) -> str | None:
        """The next best model by reduced cost among those that could take the query now."""
        return None if self.runner < 0 else self._request.pool[self.runner].name

    @property
    def waited(self) -> float:
        """Seconds between the prediction and the grant."""
        return max(self.granted - self._request.predicted, 0.0)

    @property
    def quality_price(self) -> float:
        """US dollars that one more expected success was worth at the moment of the decision."""
        return self.prices[0]

    @property
    def reason(self) -> str:
        """One sentence: why this model."""
        request = self._request
        if self.index < 0:
            return f"deferred: nothing fits; try again in {self.retry_after or 0.0:.3g} s"
        choices = request.mask.bit_count()
        if choices == 1:
            return f"{self.model} is the only model that may take it"
        price, premium = self.prices
        said = (
            f"{self.model} has the least cost less quality among {choices} models, with one success worth "
            f"${price:.6g}: predicted success {self.predicted_quality:.3f} at ${self.cost:.6g}"
        )
        if premium > 0:
            said += f", its slot priced at ${premium:.6g}"
        if self.runner < 0:
            return said
        worth = float(request.quality[self.runner])
        return f"{said}; next {self.runner_up}: {worth:.3f} at ${float(request.cost[self.runner]):.6g}"

    @property
    def released(self) -> bool:
        """True once the slot was given back."""
        return self._on_release is None

    def release(
        self,
        *,
        output_tokens: float | None = None,
        quality: float | None = None,
        cost: float | None = None,
        input_tokens: float | None = None,
        cached_tokens: float | None = None,
        failed: bool = False,
        abandoned: bool = False,
    ) -> FeedbackReceipt:
        """Release the slot, at once, and report what really happened. From any thread.

        Parameters
        ----------
        output_tokens : float, optional
            Tokens that the model wrote; settles the tokens per minute and the cost.
        quality : float, optional
            How good the answer was, in [0, 1]. Stored; see the return value.
        cost : float, optional
            US dollars really paid; by default computed from the tokens, else the prediction.
        input_tokens, cached_tokens : float, optional
            Tokens of the prompt as the endpoint counted them, and those of them that its cache held: they
            settle the cost, and tell what a conversation's caches hold.
        failed : bool
            The model gave no answer: nothing was spent unless `output_tokens` or `cost` say so, and the
            prediction does not count towards the promised quality.
        abandoned : bool
            The caller left before the answer ended: as `failed`, but the model is not to blame and no failure
            is counted.

        Returns
        -------
        FeedbackReceipt
            Await it (or call ``.result()``) to know that the `quality` is durably in the store.
            A second release changes nothing and returns the first receipt.

        Raises
        ------
        InputError
            A number is out of range; the slot is given back all the same.
        """
        on_release, self._on_release = self._on_release, None
        if on_release is not None:
            report = LeaseReport(
                output_tokens, quality, cost, failed=failed or abandoned, blamed=failed and not abandoned,
                input_tokens=input_tokens, cached_tokens=cached_tokens,
            )  # fmt: skip
            self._receipt = on_release(self, report)
        return self._receipt or FeedbackReceipt()

    def cancel(self) -> None:
        """Release the slot as if it had never been taken: no request, no token and no decision counts."""
        on_release, self._on_release = self._on_release, None
        if on_release is not None:
            on_release(self, LeaseReport(failed=True, cancelled=True))

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(failed=kind is not None)

    def __del__(self) -> None:
        on_release = getattr(self, "_on_release", None)
        if on_release is not None:
            on_release(self, LeaseReport(failed=True, blamed=True, dropped=True))
            self._on_release = None

    def __repr__(self) -> str:
        if self.index < 0:
            return f"Lease({self.id}, deferred, retry_after={self.retry_after})"
        state = "released" if self._on_release is None else "held"
        return (
            f"Lease({self.id}, {self.model!r}, {state}, predicted_quality={self.predicted_quality:.3f}, "
            f"cost=${self.cost:.6g})"
        )
