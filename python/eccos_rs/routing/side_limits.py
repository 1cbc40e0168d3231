"""Limits on figures beside cost and quality, by model: carbon, slow answers, a second measure of quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.domain.validation import check_number, did_you_mean, shown
from eccos_rs.errors import PolicyError
from eccos_rs.solver.limits import SideRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from eccos_rs.domain.query import Query
    from eccos_rs.pools.pool import Pool

__all__ = ["SideLimit", "read_side_limits", "side_rows"]

_FIGURES = ("per_request", "per_input_token", "per_output_token")


@dataclass(frozen=True, slots=True)
class SideLimit:
    """A limit on the sum or the mean of a figure over a batch, or over a group of it.

    A query's figure at a model is what the three mappings give together. Every model of the pool needs one,
    0 where it is none: a model without a figure would look as if it had the best.

    Parameters
    ----------
    name : str
        What plans and messages call it.
    at_most, at_least : float, optional
        The limit; exactly one is given.
    mean : bool
        Limit the mean over the queries that count and have a model, instead of the sum.
    per_request, per_input_token, per_output_token : mapping of str to float, optional
        Figures by model: the grams of CO2 of an output token, the probability that an answer is slower than
        a target, a score on a second benchmark. A model that is there at several efforts or in several lanes
        may be named once.
    group : str, optional
        Only queries of this group count (see `Query.group`).

    Raises
    ------
    PolicyError
        A field is malformed.

    Examples
    --------
    At most 5 % of the answers may be slow:

    >>> slow = SideLimit("slow answers", at_most=0.05, mean=True, per_request={"small": 0.01, "large": 0.2})
    >>> slow.at_most
    0.05
    """

    name: str
    at_most: float | None = None
    at_least: float | None = None
    mean: bool = False
    per_request: Mapping[str, float] | None = None
    per_input_token: Mapping[str, float] | None = None
    per_output_token: Mapping[str, float] | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise PolicyError(f"a side limit needs a name (a non-empty str), got {shown(self.name)}")
        of = f" of side limit {self.name!r}"
        given = [name for name in ("at_most", "at_least") if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "neither"
            raise PolicyError(f"exactly one of at_most and at_least{of} must be given, got {got}")
        check_number(
            f"{given[0]}{of}",
            getattr(self, given[0]),
            error=PolicyError,
            least=-np.inf,
            wanted="be a finite number",
        )
        if not isinstance(self.mean, bool):
            raise PolicyError(f"mean{of} must be true or false, got {shown(self.mean)}")
        if self.group is not None and not isinstance(self.group, str):
            raise PolicyError(f"group{of} must be a text, got {shown(self.group)}")
        if all(getattr(self, name) is None for name in _FIGURES):
            raise PolicyError(f"side limit {self.name!r} has no figures; give {', '.join(_FIGURES)}")
        for name in _FIGURES:
            object.__setattr__(self, name, _checked_figures(name, getattr(self, name), of))

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only view of a mapping cannot be pickled; the dict it was made of can.
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return _rebuilt, ({name: dict(v) if isinstance(v, Mapping) else v for name, v in values.items()},)

    def row(
        self,
        pool: Pool,
        queries: Sequence[Query],
        prompt: NDArray[np.int64],
        output: NDArray[np.float64],
    ) -> SideRow:
        """Return it for a batch, in the form of `assign`.

        Raises
        ------
        PolicyError
            A model has no figure, or a name is not in the pool.
        """
        request, asked, given = (self._by_model(pool, name) for name in _FIGURES)
        missing = [name for name, *found in zip(pool.names, request, asked, given, strict=True)
                   if all(np.isnan(each) for each in found)]  # fmt: skip
        if missing:
            raise PolicyError(
                f"side limit {self.name!r} has no figure of {missing[0]!r}; give one (0 where it is none)"
            )
        request, asked, given = (np.nan_to_num(each) for each in (request, asked, given))
        values = request + prompt[:, None] * asked + output * given
        members = None if self.group is None else np.array([query.group == self.group for query in queries])
        return SideRow(values, self.at_most, self.at_least, mean=self.mean, members=members, name=self.name)

    def _by_model(self, pool: Pool, field: str) -> NDArray[np.float64]:
        found = np.full(len(pool), np.nan)
        figures: Mapping[str, float] = getattr(self, field) or {}
        known = {*pool.names, *(model.identity for model in pool)}
        # The name of a column counts before that of the model that it is an effort or a lane of.
        for name, figure in sorted(figures.items(), key=lambda each: each[0] in pool.names):
            if name not in known:
                near = did_you_mean(name, pool.names, otherwise="it holds")
                raise PolicyError(
                    f"{field} of side limit {self.name!r} names {name!r}, which is not in the pool{near}"
                )
            found[list(pool.columns(name))] = figure
        return found


def side_rows(
    limits: Sequence[SideLimit | SideRow] | None,
    pool: Pool,
    queries: Sequence[Query],
    prompt: NDArray[np.int64],
    output: NDArray[np.float64],
) -> tuple[SideRow, ...]:
    """Return a policy's side limits for one batch.

    Raises
    ------
    PolicyError
        A model or figure is missing, or an array is not of the batch's shape.
    """
    rows = []
    for limit in limits or ():
        if isinstance(limit, SideLimit):
            rows.append(limit.row(pool, queries, prompt, output))
            continue
        shape = np.shape(limit.values)
        if shape != output.shape:
            raise PolicyError(
                f"values of side row {limit.name!r} must have the shape {output.shape} (queries, models of "
                f"the pool), got {shape}"
            )
        rows.append(limit)
    return tuple(rows)


def read_side_limits(path: str | PathLike[str]) -> tuple[SideLimit, ...]:
    """Read side limits from a TOML file of ``[[side_limit]]`` tables with the fields of `SideLimit`.

    Raises
    ------
    PolicyError
        The file is not there or malformed; a key is unknown (the near one is named).
    """
    import tomllib
    from pathlib import Path

    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise PolicyError(f"side limits {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PolicyError(f"side limits {path}: not valid TOML: {error}") from error
    tables = content.pop("side_limit", None)
    if content or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        other = f", got {shown(next(iter(content)))}" if content else ""
        raise PolicyError(f"side limits {path}: wanted [[side_limit]] tables alone{other}")
    known = tuple(each.name for each in fields(SideLimit))
    found = []
    for at, table in enumerate(tables):
        for key in table:
            if key not in known:
                raise PolicyError(
                    f"side limits {path}: unknown key {key!r} in table {at}{did_you_mean(key, known)}"
                )
        try:
            found.append(SideLimit(**dict.fromkeys(("name",)) | table))
        except PolicyError as error:
            raise PolicyError(f"side limits {path}: {error}") from error
    return tuple(found)


def _rebuilt(values: dict[str, Any]) -> SideLimit:
    return SideLimit(**values)


def _checked_figures(name: str, figures: Any, of: str) -> Mapping[str, float] | None:
    if figures is None:
        return None
    if not isinstance(figures, Mapping):
        raise PolicyError(f"{name}{of} must map models to figures, got {shown(figures)}")
    for model, figure in figures.items():
        check_number(
            f"{name} of {model!r}{of}", figure, error=PolicyError, least=-np.inf, wanted="be a finite number"
        )
    return MappingProxyType({str(model): float(figure) for model, figure in figures.items()})
