"""Models of today by any spelling: prices, window, abilities, efforts, dates; and who serves them.

The table ships (`data/models.json`): a trimmed snapshot of the price map in LiteLLM's package (MIT), with
its date. It has traps that are handled when it is made: an entry that only names another has that one's
price, a 0 of a host that sells answers is a gap, tiers start with their first step. A model without a price
is known but cannot be priced.
"""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from eccos_rs.catalogue.matching import NameIndex, same_date
from eccos_rs.catalogue.names import EFFORTS, ModelName, parse_name
from eccos_rs.domain.validation import nearest_name
from eccos_rs.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "STALE_DAYS",
    "Catalogue",
    "CatalogueModel",
    "ModelPrices",
    "Provider",
    "catalogue",
    "days_old",
]

STALE_DAYS = 90
"""Days after which a price is called old."""
_MAKERS = {
    "gpt": "openai", "chatgpt": "openai", "o1": "openai", "o3": "openai", "o4": "openai",
    "claude": "anthropic", "gemini": "gemini", "gemma": "gemini", "deepseek": "deepseek", "grok": "xai",
    "mistral": "mistral", "magistral": "mistral", "ministral": "mistral", "devstral": "mistral",
    "codestral": "mistral", "pixtral": "mistral", "kimi": "moonshot", "glm": "zai", "minimax": "minimax",
    "qwen": "dashscope", "command": "cohere", "sonar": "perplexity",
}  # fmt: skip
"""The word of a family and who makes it: whose price a name without a provider means."""
_HOSTS = ("deepinfra", "together_ai", "fireworks_ai", "groq", "cerebras", "nebius", "novita", "ollama")
"""Hosts of open weights, in the order in which they are asked for a price when a name tells no provider."""
_SUBSCRIPTIONS = {"github_copilot", "chatgpt"}
"""Sold by seat: their figures are no price of a token."""


@dataclass(frozen=True, slots=True)
class ModelPrices:
    """US dollars per million tokens, in one lane: for prompts of any length, or up to the next step.

    Parameters
    ----------
    input, output : float
    cached : float, optional
        Input tokens read from the prompt cache.
    write : float, optional
        Input tokens written into it.
    steps : tuple of (int, ModelPrices)
        Prices of prompts longer than so many tokens, in rising order.
    """

    input: float
    output: float
    cached: float | None = None
    write: float | None = None
    steps: tuple[tuple[int, ModelPrices], ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """Who serves models.

    Parameters
    ----------
    name : str
    base_url : str, optional
        None where it depends on the account or the region.
    keys : tuple of str
        Environment variables that may hold the key, the usual one first.
    kind : str
        The dialect of the address: ``"openai"``, ``"anthropic"``, ``"azure"``.
    cache_minimum : int, optional
        Tokens of the shortest prefix that is cached, where the model tells none.
    cache_lifetime : float, optional
        Seconds for which a prefix is held after its last use.
    batch_hours : float, optional
        Hours within which the batch lane answers.
    """

    name: str
    base_url: str | None = None
    keys: tuple[str, ...] = ()
    kind: str = "openai"
    cache_minimum: int | None = None
    cache_lifetime: float | None = None
    batch_hours: float | None = None


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """A model of the catalogue at one provider.

    Parameters
    ----------
    key : str
        Its name in the price map.
    provider : str
    prices : ModelPrices, optional
        None when the map has no price of it.
    lanes : mapping of str to ModelPrices
        Of the lanes other than the standard one.
    context_window, max_output_tokens : int, optional
        Tokens of the prompt, and of the answer.
    vision, tools : bool
    efforts : tuple of str
        The reasoning efforts that it takes, in rising order.
    default_effort : str, optional
        What it does when none is asked for, where that is told.
    refuses : tuple of str
        ``"sampling"``, ``"forced_tools"``.
    cache_minimum : int, optional
        Tokens of the shortest prefix that is cached.
    retires : str, optional
        The day on which the provider takes it away.
    successor : str, optional
    """

    key: str
    provider: str
    prices: ModelPrices | None
    lanes: Mapping[str, ModelPrices] = field(default_factory=dict)
    context_window: int | None = None
    max_output_tokens: int | None = None
    vision: bool = False
    tools: bool = False
    efforts: tuple[str, ...] = ()
    default_effort: str | None = None
    refuses: tuple[str, ...] = ()
    cache_minimum: int | None = None
    retires: str | None = None
    successor: str | None = None

    @property
    def thinks(self) -> bool:
        """Whether it reasons in hidden tokens when no effort is asked for."""
        return bool(self.efforts) and self.default_effort not in ("none", "minimal")

    @property
    def upstream(self) -> str:
        """The name that the provider's own address takes: the key without the provider in front."""
        head, _, tail = self.key.partition("/")
        return tail if tail and head == self.provider else self.key


class Catalogue:
    """The models that ship with the package; see `catalogue`."""

    def __init__(self, raw: Mapping[str, Any], providers: Mapping[str, Mapping[str, Any]]) -> None:
        self._entries: dict[str, dict[str, Any]] = dict(raw["models"])
        self._lower = {key.lower(): key for key in self._entries}
        self.date: str = raw["date"]
        self.source: str = raw["source"]
        self.providers: dict[str, Provider] = {
            name: Provider(name, **{**told, "keys": tuple(told.get("keys", ()))})
            for name, told in providers.items()
        }
        self._index: NameIndex | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def get(self, key: str) -> CatalogueModel | None:
        """Return the entry of this very key, an alias as what it stands for; None when there is none."""
        entry = self._entries.get(key)
        seen = {key}
        while entry is not None and (target := entry.get("alias_of")) is not None:
            entry = None if target in seen else self._entries.get(target)
            seen.add(target)
        return None if entry is None else _model(key, entry)

    def find(self, name: str) -> list[CatalogueModel]:
        """Return the entries that a name stands for, the likeliest first; empty when there is none.

        The same name before other spellings, the release asked for before others, who makes a model before
        who hosts it, a price before none. Of a dated name, entries of another date do not count; of an
        undated one, the newest dated entries do.
        """
        exact = self._lower.get(name.strip().lower())
        asked, wanted = parse_name(name), self._provider_asked(name)
        if exact is not None and wanted is not None and (model := self.get(exact)) is not None:
            return [model]
        found: dict[str, tuple[float, float]] = {}
        dated = False
        for match in self._names().find(name):
            key, other = match.spelling, parse_name(match.spelling)
            # An effort is asked of a model, it is no part of what the map prices.
            if wanted not in (None, self._provider(key)) or other.effort not in (None, asked.effort):
                continue
            if asked.dated and other.dated:
                if not _dates_agree(asked.dated, other.dated):
                    dated = True
                    continue
                found[key] = (0.0, self._rank(key, asked))
            else:
                found[key] = (1.0 if asked.dated or "release" in match.how else 0.5, self._rank(key, asked))
        if dated and all(gap > 0 for gap, _ in found.values()):
            found = {}  # a day on which no release was made
        if exact is not None:
            # Google sells the same names in two places; of a bare name the plain one is meant.
            plain = self._entries[exact].get("provider") != "vertex_ai-language-models"
            found[exact] = (-1.0 if plain else 0.5, self._rank(exact, asked))
        models = [model for key in found if (model := self.get(key)) is not None]
        return sorted(models, key=lambda m: (m.prices is None, *found[m.key], len(m.key), m.key))

    def model(self, name: str) -> CatalogueModel:
        """Return the model that a name stands for.

        Raises
        ------
        PoolError
            No entry is meant; the near names are told.
        """
        found = self.find(name)
        if not found:
            near = ", ".join(self.near(name))
            hint = f" (near: {near})" if near else ""
            raise PoolError(
                f"the catalogue of {self.date} knows no model {name!r}{hint}. "
                "A model of your own is an LLM(name, input_price, output_price), or a [[model]] table with "
                "prices in the pool file"
            )
        return found[0]

    def near(self, name: str) -> list[str]:
        """Return up to four names that were probably meant: a typing error, near versions of the family."""
        asked = parse_name(name)
        makers = {_MAKERS.get(word) for word in asked.identity}
        kin = []
        for key in self._entries:
            other = parse_name(key) if self._provider(key) in makers else None
            if other is not None and not other.dated and asked.family & _MAKERS.keys() <= other.identity:
                apart = len(asked.family ^ other.family) * _A_WORD + _versions_apart(asked, other)
                newest = [-number for number in _numbers(other)]
                kin.append((apart, newest, key.rpartition("/")[2]))
        short = sorted({key.rpartition("/")[2] for key in self._entries})
        typo = nearest_name(name.rpartition("/")[2].lower(), short, cutoff=_TYPO if kin else _LIKE)
        return list(dict.fromkeys([*([typo] if typo else []), *(spelled for *_, spelled in sorted(kin))]))[:4]

    def of_provider(self, provider: str) -> list[CatalogueModel]:
        """Return the priced models of one provider that have not been taken away, by key."""
        found = [
            self.get(key)
            for key, entry in self._entries.items()
            if self._provider(key) == provider and "alias_of" not in entry
        ]
        return [model for model in found if model is not None and model.prices is not None]

    def _provider(self, key: str) -> str:
        return str(self._entries[key].get("provider", "")).partition("-")[0]

    def _provider_asked(self, name: str) -> str | None:
        head = name.strip().lower().partition("/")[0] if "/" in name else ""
        return head if head in self.providers else None

    def _rank(self, key: str, asked: ModelName) -> float:
        """Order the providers of a model: who makes it, aliases, hosts, the rest, seats of a subscription."""
        provider = self._entries[key].get("provider", "")
        if "alias_of" in self._entries[key]:
            return _ALIAS
        if provider in _SUBSCRIPTIONS:
            return 90.0
        if any(_MAKERS.get(word) == provider for word in asked.identity):
            return 0.0
        return 40.0 + _HOSTS.index(provider) if provider in _HOSTS else 60.0

    def _names(self) -> NameIndex:
        if self._index is None:
            self._index = NameIndex(key for key in self._entries if not key.startswith(("ft:", "bedrock/")))
        return self._index


_A_WORD = 0.3
"""How far apart a word of the name sets two models, in versions."""
_NO_VERSION = 3.0
_TYPO, _LIKE = 0.9, 0.6
"""Similarity from which a spelling is taken for a typing error, and for a near one."""
_ALIAS = 30.0
"""Rank of an entry that only names another."""


def _numbers(name: ModelName) -> list[float]:
    return sorted(
        (float(word) for word in name.identity if re.fullmatch(r"\d+(?:\.\d+)?", word)), reverse=True
    )


def _versions_apart(asked: ModelName, other: ModelName) -> float:
    ours, theirs = _numbers(asked), _numbers(other)
    if len(ours) != len(theirs):
        return _NO_VERSION
    return sum(abs(one - two) for one, two in zip(ours, theirs, strict=True))


def _model(key: str, entry: Mapping[str, Any]) -> CatalogueModel:
    return CatalogueModel(
        key=key,
        provider=entry["provider"],
        prices=_prices(entry),
        lanes={
            name: lane for name, told in entry.get("lanes", {}).items() if (lane := _prices(told)) is not None
        },
        context_window=entry.get("context"),
        max_output_tokens=entry.get("answer"),
        vision=entry.get("vision", False),
        tools=entry.get("tools", False),
        efforts=tuple(effort for effort in EFFORTS if effort in entry.get("efforts", ())),
        default_effort=entry.get("effort"),
        refuses=tuple(entry.get("refuses", ())),
        cache_minimum=entry.get("cache_minimum"),
        retires=entry.get("retires"),
        successor=entry.get("successor"),
    )


def _prices(told: Mapping[str, Any]) -> ModelPrices | None:
    if "input" not in told or "output" not in told:
        return None
    flat: dict[str, Any] = {name: told.get(name) for name in ("input", "output", "cached", "write")}
    steps = tuple(
        # A step says what changes; what it leaves out stays as below it.
        (int(step["above"]), ModelPrices(**{name: step.get(name, flat[name]) for name in flat}))
        for step in told.get("steps", ())
    )
    return ModelPrices(**flat, steps=steps)


def _dates_agree(one: Iterable[str], other: Iterable[str]) -> bool:
    others = list(other)
    return any(same_date(a, b) for a in one for b in others)


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """Return the catalogue that ships."""
    data = files("eccos_rs.catalogue").joinpath("data")
    return Catalogue(
        json.loads(data.joinpath("models.json").read_bytes()),
        tomllib.loads(data.joinpath("providers.toml").read_text("utf-8")),
    )


def days_old(date: str | None, today: datetime.date | None = None) -> int | None:
    """Return the days since a date (``2026-11-27``, ``2024-12``); None when it is none.

    A month counts from its first day.
    """
    match = re.fullmatch(r"(\d{4})-(\d\d)(?:-(\d\d))?", date or "")
    if match is None:
        return None
    try:
        day = datetime.date(int(match.group(1)), int(match.group(2)), int(match.group(3) or 1))
    except ValueError:
        return None
    return ((today or datetime.date.today()) - day).days
