"""Model names: the same model is spelled in many ways, and near spellings are other models.

`parse_name` splits a spelling into what must agree for two names to mean the same weights (family, version,
size, variant), the release (date, preview), and the reasoning effort. Order does not matter:
``claude-4-opus`` and ``claude-opus-4`` are equal. What is not understood stays part of the identity, so an
odd spelling finds nothing rather than a wrong model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from eccos_rs.domain.llm import LANES

__all__ = ["EFFORTS", "ModelName", "join_options", "parse_name", "split_options"]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Reasoning efforts, in rising order. ``"thinking"`` stands for reasoning at an effort that is not told."""

# Who serves or publishes a model says nothing about which model it is.
_PROVIDERS = frozenset({
    "openai", "anthropic", "google", "meta", "mistralai", "xai", "x-ai", "deepseek-ai", "moonshotai",
    "microsoft", "nvidia", "cohere", "cohereforai", "coherelabs", "amazon", "ai21", "zai", "zai-org",
    "z-ai", "minimaxai", "accounts", "fireworks", "models", "publishers", "hf.co", "us", "eu", "apac",
    "jp", "au", "global", "allenai", "huggingfacetb", "bedrock", "azure", "vertex", "openrouter",
    "nousresearch", "alibaba", "ibm", "ibm-granite",
})  # fmt: skip
# Spellings of one family.
_WORDS = {
    "moonshotai": "",
    "hf": "",
    "latest": "",
    "it": "instruct",
    "inst": "instruct",
    "gguf": "",
    "turbo": "turbo",
    "med": "medium",
    "c4ai": "",
    "amazon": "",
    "nvidia": "",
    "meta": "",
    "default": "",
    "api": "",
    "v1:0": "",
    "chatgpt": "chatgpt",
}
_PREVIEW = frozenset({"preview", "exp", "experimental", "beta", "rc"})
_HARNESS = frozenset({"fc", "prompt", "diff", "whole", "udiff", "val", "tools"})
_QUANTISED = re.compile(
    r"(?<![a-z0-9])(?:fp8|fp16|bf16|int[48]|awq|gptq|q\d(?:_[0-9a-z]+)*|w\da\d+|nvfp4|mxfp4?|[48]bit)(?![a-z0-9])"
)
_SIZE = re.compile(r"^(?:\d+x)?\d+(?:\.\d+)?[bm]$|^a\d+(?:\.\d+)?b$")
_LETTERS_THEN_NUMBER = re.compile(r"^([a-z]{3,})(\d+(?:\.\d+)*)$")
_NUMBER = re.compile(r"^\d+(?:\.\d+)*$")
# Families whose tiers are named by a word that elsewhere is an effort.
_TIERS = {
    "medium": {"mistral", "magistral", "devstral", "medlm"},
    "max": {"qwen", "codex", "gigachat", "hunyuan"},
}
# What hosts add to a name when they serve it faster; the weights are the same.
_SERVING = {"versatile", "instant", "cloud", "maas", "free", "nitro", "tee", "turbo", "fast"}
_OPEN_FAMILIES = {
    "llama",
    "qwen",
    "gemma",
    "mistral",
    "mixtral",
    "deepseek",
    "glm",
    "kimi",
    "phi",
    "minimax",
    "oss",
}


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model's name in its parts.

    Parameters
    ----------
    spelling : str
        As it was given.
    identity : frozenset of str
        Family, version, size and variant, in no order.
    release : frozenset of str
        Dates as digits (``"20250807"``, ``"0806"``) and ``"preview"``.
    effort : str, optional
        One of `EFFORTS` or ``"thinking"``.
    """

    spelling: str
    identity: frozenset[str]
    release: frozenset[str]
    effort: str | None = None

    @property
    def family(self) -> frozenset[str]:
        """The words of the identity, without numbers: what a model's successors keep."""
        return frozenset(word for word in self.identity if not _NUMBER.match(word))

    @property
    def dated(self) -> frozenset[str]:
        """The dates alone."""
        return self.release - {"preview"}


@lru_cache(maxsize=8192)
def parse_name(spelling: str) -> ModelName:
    """Split a model's name into identity, release and effort.

    Parameters
    ----------
    spelling : str
        With or without a provider in front (``openai/gpt-5-mini``,
        ``us.anthropic.claude-opus-4-5-20251101-v1:0``).

    Returns
    -------
    ModelName

    Examples
    --------
    >>> parse_name("anthropic/claude-4-opus").identity == parse_name("claude-opus-4-20250514").identity
    True
    >>> parse_name("openai/gpt-5-mini-2025-08-07#high").effort
    'high'
    """
    text = _without_provider(spelling.strip().lower().replace("__", "/"))
    text = _QUANTISED.sub("", text)
    text, effort = _take_effort(text)
    text, dates = _take_dates(text)
    words = _joined_versions([word for word in re.split(r"[-_+\s/:@()#,\[\]]+", text) if word])
    identity: list[str] = []
    release = set(dates)
    for word in words:
        if word in _PREVIEW:
            release.add("preview")
        elif word not in _HARNESS:
            identity.extend(_spelled(word))
    identity, told = _trailing_effort(identity, spelled_out=effort is not None)
    return ModelName(spelling, _settled(identity, release), frozenset(release), effort or told)


def _without_provider(text: str) -> str:
    text = re.sub(r"\([^)]*\b(?:val|zero-shot)\)", "", text)
    text = text.rpartition("/")[2] if "/" in text else text
    # Bedrock: region.provider.model-v1:0
    text = re.sub(r"^(?:(?:us|eu|apac|jp|au|global|us-gov|ca)\.)?(?:[a-z0-9]+)\.(?=[a-z])", _bedrock, text)
    text = (
        re.sub(r"-v\d+(?::\d+)?$", "", text)
        if re.match(r"^(claude|nova|titan|jamba|llama|mi)", text)
        else text
    )
    text = re.sub(r"(\d)p(\d)", r"\1.\2", text)  # Fireworks: v3p1
    text = re.sub(r"-\d+:\d+$", "", text)  # Bedrock: gpt-oss-120b-1:0
    return re.sub(r"(?<=[a-z0-9])\+", "-plus ", text.replace("@default", ""))


def _bedrock(match: re.Match[str]) -> str:
    known = {
        "anthropic", "amazon", "meta", "mistral", "cohere", "ai21", "deepseek", "qwen", "openai",
        "moonshotai", "moonshot", "minimax", "writer", "google", "nvidia", "zai", "xai",
    }  # fmt: skip
    provider = match.group(0).rstrip(".").rpartition(".")[2]
    if provider in {"deepseek", "qwen", "minimax", "mistral"}:
        return f"{provider}-"  # who serves it and the family have one name
    return "" if provider in known else match.group(0)


_EFFORT_WORDS = "none|minimal|low|medium|med|high|xhigh|max"
_THINKING = re.compile(
    r"[-#(\s+]*(?:prompt \+ )?(?:\d+k[- ])?thinking(?: tokens)?(?:-\d+k)?(?:-auto)?"
    r"(?:-(?=high|low|medium|minimal))?\)?"
)
_EFFORT_PATTERNS = (
    # (high), #high, -high-effort, "(high reasoning)"
    (re.compile(rf"[-#(\s]+({_EFFORT_WORDS})(?:[- ](?:effort|reasoning|think(?:ing)?))\)?"), None),
    (re.compile(rf"[#(]({_EFFORT_WORDS})\)?$"), None),
    (re.compile(r"[-#(\s]*(?:no|non|without)[-_ ]?(?:think(?:ing)?|reasoning)\)?"), "none"),
    (re.compile(r"[-](high|low)thinking"), None),
    (_THINKING, "thinking"),
    (re.compile(r"[-(\s]\d+k think\)"), "thinking"),
    (re.compile(r"\((?:enabled|default think)\)"), "thinking"),
    # Of a grok this is a switch; of a phi or a command it is another model.
    (re.compile(r"(?<=grok)(.*)-reasoning(?=$|[-@:(\s])"), "thinking"),
    (re.compile(r"\(no think\)"), "none"),
)


def _take_effort(text: str) -> tuple[str, str | None]:
    found: str | None = None
    for pattern, value in _EFFORT_PATTERNS:
        match = pattern.search(text)
        if match is None:
            continue
        told = value or match.group(1)
        if value is None and any(family in text for family in _TIERS.get(told, ())):
            continue  # qwen3-max-thinking is a model at an effort that is not told
        # An effort told in words is more than "thinking" beside it.
        if found is None or found == "thinking":
            found = "medium" if told == "med" else told
        kept = match.group(1) if value and match.groups() else ""
        text = f"{text[: match.start()]}{kept} {text[match.end() :]}".strip()
        if pattern is _THINKING and (
            word := re.search(r"(?:^|[-\s])(none|minimal|low|medium|high|xhigh)$", text)
        ):
            text, found = text[: word.start()], word.group(1)
    return text, found


_DATES = (
    re.compile(r"(?<!\d)(20\d\d)[-.]?(0[1-9]|1[0-2])[-.]?([0-2]\d|3[01])(?!\d)"),
    re.compile(r"(?<!\d)(0[1-9]|1[0-2])-(20\d\d)(?!\d)"),
    re.compile(r"(?<![\d.])(0[1-9]|1[0-2])-([0-2]\d|3[01])(?![\d.])"),
    re.compile(r"(?<!\d)(20\d\d)-?(0[1-9]|1[0-2])(?!\d)"),
    re.compile(r"(?<![\d.])(2[3-9])[-.]?(0[1-9]|1[0-2])(?![\d.kb])"),
    re.compile(r"(?<![\d.])(0[1-9]|1[0-2])([0-2]\d|3[01])(?![\d.kb])"),
)


def _take_dates(text: str) -> tuple[str, list[str]]:
    dates: list[str] = []
    for pattern in _DATES:
        while match := pattern.search(text):
            parts = match.groups()
            dates.append("".join(reversed(parts) if len(parts[-1]) == len("2025") else parts))
            text = f"{text[: match.start()].rstrip('-@ (')} {text[match.end() :].lstrip(')')}"
    return text, dates


def _joined_versions(words: list[str]) -> list[str]:
    """Join ``4 5`` to ``4.5``: hosts write a version's point as a dash."""
    joined: list[str] = []
    for word in words:
        if joined and re.fullmatch(r"\d", word) and re.fullmatch(r"(?:[a-z]{3,})?v?\d", joined[-1]):
            joined[-1] = f"{joined[-1]}.{word}"
        else:
            joined.append(word)
    return joined


def _spelled(word: str) -> list[str]:
    """Return the words that a word stands for: ``qwen2.5`` is a family and a version."""
    if word in _WORDS:
        return [_WORDS[word]] if _WORDS[word] else []
    if word in _PROVIDERS:
        return []
    if re.fullmatch(r"v\d+(?:\.\d+)*", word):
        return [_plain(word[1:])]
    match = _LETTERS_THEN_NUMBER.match(word)
    if match:
        return [match.group(1), _plain(match.group(2))]
    return [_plain(word) if _NUMBER.match(word) else word]


def _plain(number: str) -> str:
    """``4.0`` is ``4``."""
    return number.removesuffix(".0")


def _trailing_effort(words: list[str], *, spelled_out: bool) -> tuple[list[str], str | None]:
    if words and words[-1] in EFFORTS and not spelled_out:
        tier = _TIERS.get(words[-1], set()) & set(words[:-1])
        # "qwen-max" is a model; "codex-max-high" has its effort last.
        if not tier:
            return words[:-1], words[-1]
    return words, None


def _settled(words: list[str], release: set[str]) -> frozenset[str]:
    found = set(words)
    if "gpt" in found and "35" in found:  # Azure: gpt-35-turbo
        found = (found - {"35"}) | {"3.5"}
    if "deepseek" in found and len(found) > 2:
        found -= {"chat"}  # deepseek-chat-v2 is deepseek-v2; deepseek-chat alone is an alias that moves
    if "mistral" in found and "large" in found:
        found -= {"instruct"}
    if "claude" in found:
        found -= {"base"}
    if found & _OPEN_FAMILIES:
        # Of open weights what is served under a bare name is the instruction-tuned model; a base model says
        # "base".
        found -= _SERVING | ({"chat"} if "deepseek" not in found else set())
        found -= {"instruct"}
    if any(_SIZE.match(word) and word[0] != "a" for word in found):
        # Of a mixture of experts the active size is often left out: qwen3-235b is qwen3-235b-a22b.
        found -= {word for word in found if _SIZE.match(word) and word[0] == "a"}
    if "llama" in found and any(word.startswith(("maverick", "scout")) for word in found):
        found -= {word for word in found if _SIZE.match(word) or re.fullmatch(r"\d+e", word)} | {"basic"}
    if found == {"o1"} and "preview" in release:
        found = {"o1", "preview"}
    if "nova" in found:
        found -= {"1"}
    if "grok" in found and "4.2" in found:
        found = (found - {"4.2"}) | {"4.20"}
    return frozenset(found)


def join_options(name: str, effort: str | None, lane: str | None) -> str:
    """Return ``name@effort@lane`` as `split_options` reads it; the standard lane is not told."""
    return "@".join(word for word in (name, effort, None if lane == "standard" else lane) if word)


def split_options(text: str) -> tuple[str, str | None, str | None]:
    """Split ``name@effort@lane``; an ``@`` that is part of a name (``claude-opus-4@20250514``) stays."""
    name, effort, lane = text, None, None
    while (parts := name.rpartition("@"))[0]:
        word = parts[2].lower()
        if word in LANES and lane is None:
            lane = word
        elif word in EFFORTS and effort is None:
            effort = word
        else:
            break
        name = parts[0]
    return name, effort, None if lane == "standard" else lane
