"""The judge: who it is, what its grades are worth, and whether it prefers its own answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.catalogue.names import parse_name
from eccos_rs.errors import InputError, PoolError
from eccos_rs.routing.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from eccos_rs.routing.pool import LLM
    from eccos_rs.start.outlook import Traffic

__all__ = ["JudgeReport", "SelfPreference", "find_judge", "judge_column", "self_preference"]

SURE = 2.0
"""Standard deviations by which a judge's grades of itself must pass what is expected, to be a preference."""


@dataclass(frozen=True, slots=True)
class SelfPreference:
    """How a judge grades its own model's answers, in success.

    Attributes
    ----------
    model : str
    ahead : float
        Its own answers' mean grade minus that of all other models' answers to the same requests.
    expected : float
        What published scores and other labels say of that difference.
    std : float
        Standard deviation of what lies between the two.
    answers : int
    """

    model: str
    ahead: float
    expected: float
    std: float
    answers: int

    @property
    def prefers_itself(self) -> bool:
        """Whether the grades are above what is expected by more than chance and ignorance."""
        return self.ahead - self.expected > SURE * self.std

    @property
    def sentence(self) -> str:
        """The same in words."""
        excess = f"{100 * self.ahead:+.0f} points ahead of the others', where {100 * self.expected:+.0f} "
        told = f"the judge {self.model} grades its own {self.answers:,} answers {excess}"
        told += f"(±{100 * SURE * self.std:.0f}) is expected"
        if self.prefers_itself:
            return f"{told}: it prefers itself; take another judge before you trust the verdict"
        return f"{told}: no preference for itself is seen"


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """What is known of the judge.

    Attributes
    ----------
    name : str
    graded_twice : int
        Answers that it graded a second time.
    grade_std : float or None
        Standard deviation of one grade, success in 0 to 1, by those.
    own : SelfPreference or None
        Where its own model answers too.
    """

    name: str
    graded_twice: int
    grade_std: float | None
    own: SelfPreference | None

    @property
    def lines(self) -> list[str]:
        """What is to be said of it."""
        told = []
        if self.grade_std is not None:
            told.append(
                f"{self.graded_twice:,} answers were graded twice: one grade of {self.name} is off by "
                f"{100 * self.grade_std:.0f} points (one standard deviation)"
            )
        return told if self.own is None else [*told, self.own.sentence]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        made = asdict(self)
        if self.own is not None:
            made["own"]["prefers_itself"] = self.own.prefers_itself
        return made


def find_judge(name: str | None, pool: Pool, traffic: Traffic) -> LLM:
    """Return the judge's model.

    Parameters
    ----------
    name : str or None
        A model of the pool, one of the catalogue, or a pool file that holds it alone; None takes the model of
        the pool that is expected to do best and can be asked.

    Raises
    ------
    PoolError
        Nobody knows it, or it has no endpoint.
    """
    if name is None:
        means = traffic.mass @ traffic.quality
        able = [at for at in np.argsort(-means).tolist() if pool[at].endpoint is not None]
        if not able:
            raise PoolError("judge: no model of the pool has an endpoint; name one (--judge)")
        strongest: LLM = pool[able[0]]
        return strongest
    if name.endswith(".toml"):
        alone = Pool.load(name)
        if len(alone) != 1:
            raise InputError(f"judge: {name} holds {len(alone)} models, wanted the judge alone")
        made: LLM = alone[0]
        if made.name in pool.names and made != pool[made.name]:
            made = replace(made, name=f"{made.name} (judge)", model=made.identity)
    elif name in pool.names:
        made = pool[name]
    else:
        try:
            made = Pool.of(name)[0]
        except PoolError as error:
            raise PoolError(
                f"judge: {error}. A judge is a model of the pool, one of the catalogue, or a pool file with "
                "it alone"
            ) from None
    if made.endpoint is None:
        raise PoolError(
            f"judge: {made.name!r} has no endpoint; give a pool file that says where it is served"
        )
    return made


def judge_column(judge: LLM, names: tuple[str, ...], pool: Pool) -> int | None:
    """Return the column of the judge's own model among those that answer; None where it does not answer."""
    words = parse_name(judge.identity).identity
    for at, name in enumerate(names):
        if name == judge.name or parse_name(pool[name].identity).identity == words:
            return at
    return None


def self_preference(
    column: int,
    names: tuple[str, ...],
    grades: NDArray[np.floating],
    forecast: Mapping[str, NDArray[np.floating]],
) -> SelfPreference | None:
    """Compare a judge's grades of its own answers with what is expected of them.

    Parameters
    ----------
    column : int
        The judge's own model.
    names : tuple of str, length M
    grades : ndarray, shape (n, M)
        Of requests that the judge graded, each model's answer.
    forecast : mapping
        ``quality``, (n, M), before any label, and ``level_std``, (M,).

    Returns
    -------
    SelfPreference or None
        None for too few answers, or a pool of one.
    """
    n, m = grades.shape
    if n < 10 or m < 2:
        return None
    others = [at for at in range(m) if at != column]
    ahead = grades[:, column] - grades[:, others].mean(axis=1)
    p = forecast["quality"].astype(np.float64)
    expected = p[:, column] - p[:, others].mean(axis=1)
    coin = float(np.mean(p * (1.0 - p)))
    level = np.square(np.asarray(forecast["level_std"], dtype=np.float64))
    unknown = coin * np.sqrt(level[column] + level[others].sum() / len(others) ** 2)
    chance = float(np.std(ahead - expected)) / np.sqrt(n)
    std = float(np.hypot(chance, unknown))
    return SelfPreference(names[column], float(ahead.mean()), float(expected.mean()), std, n)
