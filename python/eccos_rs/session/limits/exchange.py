"""What sessions that share limits say to each other: one message and one reply per micro-batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HeldSlot", "LimiterReply", "Message", "ModelLimit", "ModelUse", "Publication", "SharedBackend"]


class ModelLimit(NamedTuple):
    """The limits of a model; None for no limit."""

    name: str
    slots: int | None
    requests: int | None
    tokens: int | None


class ModelUse(NamedTuple):
    """What all sessions together use of a model: requests that run, and the uses in the sliding window."""

    in_flight: int
    requests: int
    tokens: int


class HeldSlot(NamedTuple):
    """A slot that a session holds."""

    id: str
    model: int
    tokens: int


class Publication(NamedTuple):
    """What a session publishes to the others, several times per second.

    Attributes
    ----------
    row : str
        JSON, opaque here.
    period : str
        The budget's period; empty without a budget.
    spent, reserved : float
        US dollars settled in the period by this session, and predicted for what runs.
    """

    row: str
    period: str = ""
    spent: float = 0.0
    reserved: float = 0.0


@dataclass(slots=True)
class Message:
    """What a session tells and asks. A message that got no reply may be sent again as a registration.

    Attributes
    ----------
    replica : str
        The session.
    epoch : str or None
        The life of the shared state that this session has seen; None before the first reply.
    claims : sequence of (id, model, tokens)
        Slots that are wanted.
    settled : sequence of (id, tokens)
        Slots that are released, with the tokens really used.
    cancelled : sequence of id
        Slots that are released as if they had never been taken.
    held : sequence of HeldSlot, or None
        A registration: all slots that the session holds. What is not listed is released.
    used : sequence of (requests, tokens) per model
        With a registration: what this session has used in the last window, should the state have been lost.
    unseen : sequence of (requests, tokens) per model
        With a registration: what it has used while the state could not be reached.
    restarted : str
        With a registration: names the run of the server; a new name means that all sessions were cut off.
    publication : Publication, optional
        Given, the reply has what the others have published.
    leaving : bool
        The session ends: its registration is removed.
    """

    replica: str
    epoch: str | None
    claims: Sequence[tuple[str, int, int]] = ()
    settled: Sequence[tuple[str, int]] = ()
    cancelled: Sequence[str] = ()
    held: Sequence[HeldSlot] | None = None
    used: Sequence[tuple[int, int]] = ()
    unseen: Sequence[tuple[int, int]] = ()
    restarted: str = ""
    publication: Publication | None = None
    leaving: bool = False


@dataclass(slots=True)
class LimiterReply:
    """The answer to a message.

    Attributes
    ----------
    epoch : str
        The life of the shared state.
    known : bool
        False when the session must register first: nothing of the message was done.
    granted : list of bool
        For each claim.
    uses : sequence of ModelUse
        In the order of the limits.
    replicas : int
        Sessions that are alive, this one included.
    others : list of str
        What the other living sessions have published; None unless something was published.
    spent : float
        US dollars that all others have spent in the period, sessions that have ended included, and what ran
        in sessions that were killed.
    differing : str
        Names a model whose limits another session has stated differently; empty when none has.
    """

    epoch: str
    known: bool
    granted: list[bool] = field(default_factory=list)
    uses: Sequence[ModelUse] = ()
    replicas: int = 1
    others: list[str] | None = None
    spent: float = 0.0
    differing: str = ""


class SharedBackend(Protocol):
    """Where sessions meet. Methods block and are called on one thread.

    Every exchange is atomic, and all times are the backend's own.
    """

    @property
    def url(self) -> str:
        """How it is named in messages."""
        ...

    def exchange(self, message: Message) -> LimiterReply:
        """Do what a message says, in this order: reap the dead, register, release, grant, publish.

        Raises
        ------
        StoreError
            The backend cannot be reached. What was asked may have been done all the same.
        """
        ...

    def run_name(self) -> str:
        """Return the name of the server's run, which changes when it restarts."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...
