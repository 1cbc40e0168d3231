"""Under which limits, in which batches, routers are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["FULL", "SETTINGS", "Setting", "find_settings"]

FORMS = ("random", "adversarial")


@dataclass(frozen=True)
class Setting:
    """One way of posing the problem.

    Attributes
    ----------
    limit : str
        ``none``; ``equal/K``: every model takes a K-th of a batch; ``strong/P``: the strongest model takes P
        percent of it; ``two/P``: the two strongest take P percent each.
    form : {"random", "adversarial"}
        Batches drawn from all held-back queries, or only from the third that looks hardest. Hard is what the
        best predictor expects, not what the outcomes were: choosing by outcome would pick queries whose
        forecasts are too high, and every router would seem to break its promises.
    size : int or None
        Queries in a batch; None puts all into one.
    """

    limit: str = "none"
    form: str = "random"
    size: int | None = 256

    def __post_init__(self) -> None:
        self._limit()
        if self.form not in FORMS:
            raise InputError(f"form: got {self.form!r}, wanted one of {', '.join(FORMS)}")
        if self.size is not None and self.size < 1:
            raise InputError(f"size: got {self.size}, wanted at least 1 query in a batch")

    @property
    def name(self) -> str:
        """Its key in the report: ``limit form size``."""
        return f"{self.limit} {self.form} {self.size or 'all'}"

    @property
    def title(self) -> str:
        """Say it in words."""
        kind, amount = self._limit()
        words = {
            "none": "no capacity limit",
            "equal": f"every model takes N/{amount:g}",
            "strong": f"strongest model takes {amount:g} %",
            "two": f"two strongest models take {amount:g} % each",
        }[kind]
        batch = "all queries at once" if self.size is None else f"batches of {self.size}"
        return f"{words}, {batch}{', all hard' if self.form == 'adversarial' else ''}"

    def _limit(self) -> tuple[str, float]:
        kind, _, text = self.limit.partition("/")
        try:
            amount = float(text) if kind != "none" else 0.0
        except ValueError:
            amount = float("nan")
        wanted = {"none": not text, "equal": amount >= 1, "strong": 0 < amount < 100, "two": 0 < amount < 50}
        if not wanted.get(kind, False):
            raise InputError(f"limit: got {self.limit!r}, wanted none, equal/K, strong/P or two/P")
        return kind, amount

    def capacity(self, n: int, strength: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return the queries that each model may take out of a batch.

        Parameters
        ----------
        n : int
            Queries in the batch.
        strength : ndarray, shape (M,)
            Mean quality of each model; the highest is the strongest.

        Returns
        -------
        ndarray of float64, shape (M,)
            Whole numbers or inf. Equal shares are rounded up, so that a batch always fits.
        """
        kind, amount = self._limit()
        limits = np.full(len(strength), np.inf)
        if kind == "equal":
            limits[:] = np.ceil(n / amount)
            if limits.sum() < n:
                raise InputError(
                    f"limit: {self.limit} leaves no room for all queries with {len(strength)} models"
                )
        elif kind in {"strong", "two"}:
            few = 1 if kind == "strong" else 2
            if few >= len(strength):
                raise InputError(f"limit: {self.limit} needs more than {few} models, got {len(strength)}")
            limits[np.argsort(-np.asarray(strength))[:few]] = np.floor(n * amount / 100)
        return limits

    def batches(self, hardness: npt.NDArray[np.floating], repeat: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the rows of each batch.

        Parameters
        ----------
        hardness : ndarray, shape (N,)
            The higher, the harder the query looks.
        repeat : int
            The order is shuffled with this seed. Queries that do not fill a last batch are left out of this
            repeat (other repeats leave out others), so that a limit always means the same.
        """
        rows = np.arange(len(hardness))
        if self.form == "adversarial":
            rows = np.sort(np.argsort(-hardness, kind="stable")[: max(1, len(rows) // 3)])
        rows = np.random.default_rng([20_502, repeat]).permutation(rows)
        size = len(rows) if self.size is None else min(self.size, len(rows))
        for start in range(0, len(rows) - size + 1, size):
            yield rows[start : start + size]

    def repeats(self, count: int) -> int:
        """How many shuffles to average over: enough for some thirty batches, one when order cannot matter."""
        kind, _ = self._limit()
        rows = max(1, count // 3) if self.form == "adversarial" else count
        size = rows if self.size is None else min(self.size, rows)
        if kind == "none" and size == rows:
            return 1
        return int(np.clip(np.ceil(32 * size / rows), 2, 8))


LIMITS = ("none", "equal/5", "equal/4", "strong/10", "strong/20", "strong/30", "two/10")
SIZES = (64, 256, 1024, None)

#: What is run unless asked otherwise: every limit on batches of 256, every size and the hard batches where
#: they matter.
SETTINGS: tuple[Setting, ...] = (
    *(Setting(limit) for limit in LIMITS),
    *(Setting(limit, size=size) for limit in ("none", "equal/5", "equal/4") for size in (64, 1024, None)),
    *(Setting(limit, "adversarial") for limit in ("none", "equal/5", "equal/4", "strong/10")),
)

#: Every limit with every form and every size.
FULL: tuple[Setting, ...] = tuple(
    Setting(limit, form, size) for form in FORMS for size in SIZES for limit in LIMITS
)


def find_settings(names: Sequence[str]) -> tuple[Setting, ...]:
    """Return settings by name: ``default``, ``all``, or ``LIMIT[:FORM[:SIZE]]``, say ``equal/4:random:256``.

    Raises
    ------
    InputError
        If a name is not understood.
    """
    chosen: dict[Setting, None] = {}
    for name in names:
        if name in {"default", "all"}:
            chosen.update(dict.fromkeys(SETTINGS if name == "default" else FULL))
            continue
        limit, form, size = [*name.split(":"), "", ""][:3]
        if size not in {"", "all"} and not size.isdecimal():
            raise InputError(f"setting {name!r}: got size {size!r}, wanted a number or all")
        number = 256 if not size else None if size == "all" else int(size)
        chosen[Setting(limit, form or "random", number)] = None
    return tuple(chosen)
