"""What `eccos start` is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from eccos_rs.errors import InputError
from eccos_rs.evaluate.verdict import TOLERANCE
from eccos_rs.records.collect.endpoint import Retry

__all__ = ["StartOptions"]


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How to start.

    Attributes
    ----------
    spend : float
        US dollars that may be spent in all, earlier runs into the same folder included; 0 asks nobody.
    judge : str or None
        Who grades answers that no rule can grade: a model of the pool, one of the catalogue, or a pool file
        that holds it alone. By default the strongest model of the pool.
    bundle : str or None
        The router that is sharpened; by default the one that names no model.
    sample : int
        Rows of the log that are looked at, a fair sample of a longer one.
    column : str or None
        The column with the text or the messages, where its name does not say so.
    tolerance : float
        Quality that may be lost at the lower end of the interval.
    max_output_tokens : int
        Longest answer, where a request does not say.
    concurrency : int
        Calls at once to a model whose pool entry has no `slots`.
    retry : Retry
        How to try again.
    timeout : float or None
        Seconds for one call; by default each endpoint's own.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    seed : int
        Of samples and draws.
    """

    spend: float = 0.0
    judge: str | None = None
    bundle: str | None = None
    sample: int = 5_000
    column: str | None = None
    tolerance: float = TOLERANCE
    max_output_tokens: int = 4096
    concurrency: int = 8
    retry: Retry = field(default_factory=Retry)
    timeout: float | None = None
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.spend < float("inf"):
            raise InputError(f"spend: got {self.spend}, wanted 0 or more US dollars")
        if not 0.0 <= self.tolerance < 1.0:
            raise InputError(f"tolerance: got {self.tolerance}, wanted a share of 0 to 1, such as 0.05")
        for name in ("sample", "concurrency", "max_output_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: got {getattr(self, name)}, wanted 1 or more")
