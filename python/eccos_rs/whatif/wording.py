"""Changes as users write them: ``slots large=+10`` on a command line, tables of a scenario file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eccos_rs.domain.validation import did_you_mean, is_number, shown
from eccos_rs.errors import InputError, PoolError
from eccos_rs.pools.catalogued import llm_of_name
from eccos_rs.pools.pool import LLM, Pool
from eccos_rs.whatif.scenario import (
    RESOURCES,
    Change,
    Scenario,
    added,
    batch_share,
    commitment,
    goal,
    limit,
    outage,
    price,
    traffic_factor,
)

__all__ = ["KINDS", "Added", "Wording", "build_worlds", "read_scenarios"]

KINDS = (
    "price", "slots", "requests_per_minute", "tokens_per_minute", "add", "outage", "commit", "batch",
    "budget", "min_quality", "traffic",
)  # fmt: skip
"""What can be changed."""
_OF_A_MODEL = ("price", *RESOURCES, "commit")
_SCHEMA_VERSION = 1

Added = Mapping[str, tuple[LLM, Path | None]]


class Wording:
    """Reads changes, and keeps the models that they add.

    Parameters
    ----------
    folder : Path
        That paths are relative to.

    Attributes
    ----------
    models : dict of str to (LLM, Path or None)
        Models that some change adds, each with its file of labels.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = Path() if folder is None else folder
        self.models: dict[str, tuple[LLM, Path | None]] = {}

    def parse(self, text: str) -> list[Change]:
        """Read one or several changes, separated by semicolons.

        Raises
        ------
        InputError
            It is none of these; the near word is named.
        """
        parts = [part.strip() for part in text.split(";") if part.strip()]
        if not parts:
            raise InputError(f"a change must say what changes, such as 'slots large=+10'; got {shown(text)}")
        return [self._parse_one(part) for part in parts]

    def _parse_one(self, part: str) -> Change:
        word, _, rest = part.partition(" ")
        if "=" in word:
            word, _, rest = part.partition("=")
        kind, rest = _kind(word), rest.strip()
        if kind in _OF_A_MODEL or (kind == "add" and "=" in rest):
            target, sign, value = rest.rpartition("=")
            if not sign or not target.strip():
                raise InputError(f"{part!r} must be {kind} MODEL=VALUE")
            return self.change(kind, target.strip(), value.strip())
        if kind in ("add", "outage"):
            return self.change(kind, rest, None)
        return self.change(kind, "", rest)

    def table(self, table: Mapping[str, Any]) -> list[Change]:
        """Read the changes of one table of a scenario file."""
        changes: list[Change] = []
        for word, value in table.items():
            kind = _kind(word)
            if kind in _OF_A_MODEL:
                if not isinstance(value, Mapping):
                    raise InputError(
                        f"{word} must be a table of models, such as {{ large = … }}; got {shown(value)}"
                    )
                changes += [self.change(kind, name, each) for name, each in value.items()]
            elif kind == "add" and isinstance(value, Mapping):
                changes += [self.change(kind, name, each) for name, each in value.items()]
            elif kind in ("add", "outage"):
                names = [value] if isinstance(value, str) else value
                if not isinstance(names, list):
                    raise InputError(f"{word} must be a model or a list of models, got {shown(value)}")
                changes += [self.change(kind, name, None) for name in names]
            else:
                changes.append(self.change(kind, "", value))
        return changes

    def change(self, kind: str, target: str, value: Any) -> Change:
        """Make a change of its kind, what it is about, and a value.

        Raises
        ------
        InputError, PoolError
            The value is none that the kind takes, or the model that is added is not known.
        """
        makers: dict[str, Callable[[], Change]] = {
            "price": lambda: _price(target, value),
            "outage": lambda: outage(_text(kind, target)),
            "add": lambda: added(self._model(_text(kind, target), value)),
            "commit": lambda: commitment(target, _number(f"the commitment to {target!r}", value)),
            "batch": lambda: batch_share(_share(value)),
            "traffic": lambda: traffic_factor(_number(kind, value)),
            "budget": lambda: goal(kind, _number(kind, value)),
            "min_quality": lambda: goal(kind, _number(kind, value)),
        }
        return makers.get(kind, lambda: _limit(kind, target, value))()

    def _model(self, name: str, labels: Any) -> LLM:
        path = None
        if labels not in (None, ""):
            path = self._folder / _text("labels", labels)
            if not path.is_file():
                raise InputError(f"add {name}: there is no file of labels {str(path)!r}")
        if name.endswith(".toml"):
            own = Pool.load(self._folder / name)
            if len(own) != 1:
                raise PoolError(f"add {name}: the pool file must hold the new model alone, got {len(own)}")
            model: LLM = own[0]
        else:
            model = llm_of_name(name)
        before = self.models.get(model.name)
        if before is not None and before[0] != model:
            raise PoolError(f"two different models named {model.name!r} are added")
        self.models[model.name] = (model, path or (None if before is None else before[1]))
        return model


def read_scenarios(path: str | Path) -> tuple[list[tuple[str, list[Change]]], Added]:
    """Read a scenario file.

    Parameters
    ----------
    path : path
        TOML with ``schema_version = 1`` and ``[[scenario]]`` tables: a ``name`` and changes.

    Returns
    -------
    list of (str, list of callable)
        Name ("" where none is given) and changes of each scenario.
    mapping of str to (LLM, Path or None)
        The models that they add, with their labels.

    Raises
    ------
    InputError
        It cannot be read, or a word in it is unknown (the near one is named).
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"scenario file {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"scenario file {path} is not TOML: {error}") from error
    wording = Wording(path.parent)
    try:
        version = raw.pop("schema_version", _SCHEMA_VERSION)
        if version != _SCHEMA_VERSION:
            raise InputError(f"schema_version must be {_SCHEMA_VERSION}, got {shown(version)}")
        tables = raw.pop("scenario", [])
        for word in raw:
            raise InputError(f"there is no key {word!r}{did_you_mean(word, ['schema_version', 'scenario'])}")
        if not isinstance(tables, list) or not tables:
            raise InputError("it must hold [[scenario]] tables, got none")
        scenarios = [_one(at, dict(table), wording) for at, table in enumerate(tables)]
    except (InputError, PoolError) as error:
        raise InputError(f"scenario file {path}: {error}") from error
    return scenarios, wording.models


def _one(at: int, table: dict[str, Any], wording: Wording) -> tuple[str, list[Change]]:
    name = table.pop("name", "")
    if not isinstance(name, str):
        raise InputError(f"the name of scenario {at + 1} must be a text, got {shown(name)}")
    try:
        changes = wording.table(table)
    except (InputError, PoolError) as error:
        raise InputError(f"scenario {name or at + 1}: {error}") from error
    if not changes:
        raise InputError(f"scenario {name or at + 1} changes nothing; it can change {', '.join(KINDS)}")
    return name, changes


def _kind(word: str) -> str:
    kind = word.strip().lower().replace("-", "_")
    if kind not in KINDS:
        raise InputError(f"there is no change {shown(word)}{did_you_mean(kind, KINDS)}")
    return kind


def _price(model: str, value: Any) -> Change:
    """Read ``1.25/10``, ``[1.25, 10]`` or ``x0.5``."""
    what = f"the price of {model!r}"
    if isinstance(value, str) and value.strip()[:1] in ("x", "×"):
        return price(model, factor=_at_least_0(what, value.strip()[1:]))
    both = value.split("/") if isinstance(value, str) else value
    if not isinstance(both, list | tuple) or len(both) != 2:
        raise InputError(
            f"{what} must be INPUT/OUTPUT in US dollars per million tokens, or xFACTOR; got {shown(value)}"
        )
    return price(model, input_price=_at_least_0(what, both[0]), output_price=_at_least_0(what, both[1]))


def _limit(resource: str, name: str, value: Any) -> Change:
    more = isinstance(value, str) and value.strip()[:1] in ("+", "-")
    return limit(name, resource, _number(f"{resource} of {name!r}", value), more=more)


def _share(value: Any) -> float:
    if isinstance(value, str) and value.strip().endswith("%"):
        return _number("batch", value.strip()[:-1]) / 100.0
    return _number("batch", value)


def _at_least_0(what: str, value: Any) -> float:
    number = _number(what, value)
    if number < 0:
        raise InputError(f"{what} must be at least 0, got {number:g}")
    return number


def _number(what: str, value: Any) -> float:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[\d_,.]+(e[+-]?\d+)?\s*", value, re.IGNORECASE):
        try:
            return float(value.replace(",", ""))
        except ValueError:
            pass
    if not is_number(value):
        raise InputError(f"{what} must be a number, got {shown(value)}")
    return float(value)


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{what} must name a model, got {shown(value)}")
    return value.strip()


def build_worlds(today: Scenario, named: list[tuple[str, list[Change]]]) -> list[Scenario]:
    """Return today and every scenario made of it.

    Raises
    ------
    PoolError, InputError
        A change does not fit the pool; the sentence names the scenario.
    """
    worlds = [today]
    for at, (name, changes) in enumerate(named, start=1):
        world = today
        try:
            for change in changes:
                world = change(world)
        except (InputError, PoolError) as error:
            raise type(error)(f"scenario {name or at}: {error}") from error
        worlds.append(replace(world, name=name) if name else world)
    return worlds
