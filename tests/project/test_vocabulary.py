"""Words that were retired stay out of names, comments, messages and docs."""

from __future__ import annotations

import ast
import re

import pytest

from tests.helpers.paths import ROOT

RETIRED = {
    r"\bWaiter\b|WaitingRoom": "PendingRequest, RequestQueue",
    r"nobody behind a door|wait(s|ing)? for company": "no head-of-line blocking; batching window",
    r"\bIntake\b|\bDecider\b|_keep_places|\broom prices?\b": "Admission, Dispatcher, capacity prices",
    r"\bSteering\b|\b_owe\b|\bsplendou?r\b|\bdearness\b|\breckon": "DualController, cost_ratio",
    r"\b_HASTE\b|\b_foreseen\b|\bbooks of a\b": "refresh threshold, predicted cost, ledger",
    r"\bgive_back\b|\btime bucket": "release, time_slot",
    r"\bAcknowledgement\b": "FeedbackReceipt",
    r"\bdoors?\b|_Door\b": "input validation, entry point, adapter",
    r"\bWish\b|_Journey|\b_Way\b|EndpointLeft|unless_gone": "RoutingRequest, UpstreamDisconnected",
    r"\bowes a\b|\blonely\b|\bPace\.": "the protocol, single-query, ThreadingAutotuner",
    r"ARITHMETIC|arithmetics|\barithmetic:|\b(an|each|every|which) arithmetic\b": "precision",
    r"[Nn]ewcomer": "new model, NewModelHead",
    r"\bFade\b|\bfading\b": "BackOff, shrinkage to the prior",
    r"\bLesson\b|\b_?teach(es)?\b|\bTeach(es)?\b|\btaught labels\b|\blabels taught\b": (
        "training set, update, distil, denoise_labels"
    ),
    r"\bContender\b|\bclass Held\b|\bConduct\b|\bdial\b": "RoutingMethod, HeldOutSet, operating point",
    r"\bby nature\b|_TOKENS_A_PRICE": "by construction, TOKENS_PER_PRICE_UNIT",
    r"\b(one|dollars|tokens|ms|cycles|requests|bytes) a "
    r"(query|model|shape|row|second|minute|hour|day|text|batch|token|line)\b(?! (may|takes|can|is)\b)": "per",
    r"heads of the table|told in times": "column headers, shown as a ratio",
    r"interpreter is let go": "releases the GIL",
    r"\bis had for\b|\bdear to\b|\bwhole way\b": "reaches … at, expensive to, end to end",
}
"""Pattern to the term that takes its place."""
KEPT = {
    "python/eccos_rs/evaluate/__init__.py": "the deprecated names themselves",
    "python/eccos_rs/predict/calibration.py": "the deprecated name itself, and a key of the bundle's format",
    "python/eccos_rs/predict/onboarding.py": "the deprecated names themselves",
    "python/eccos_rs/session/__init__.py": "the deprecated name itself",
    "tests/predict/test_predict_math.py": "the deprecated name itself",
    "tests/project/test_vocabulary.py": "this list",
}
"""Files that must name a retired word, and why."""
FOLDERS = ("python", "rust", "benches", "examples", "tools", "docs", "tests")
SUFFIXES = {".py", ".pyi", ".rs", ".md", ".ipynb"}


def texts() -> list[str]:
    found = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES and path.is_file()]
    names = (path.relative_to(ROOT).as_posix() for path in found)
    return sorted(
        name for name in names if name not in KEPT and "/models/" not in name and "/target/" not in name
    )


def uses(text: str) -> list[str]:
    """Return the retired words of a text with their lines."""
    return [
        f"{number}: {met.group(0)!r}, wanted {term}"
        for number, line in enumerate(text.splitlines(), start=1)
        for pattern, term in RETIRED.items()
        if (met := re.search(pattern, line))
    ]


@pytest.mark.parametrize("word", ["class Newcomer:", "dollars a query", "the solver's door", "_teach(self)"])
def test_a_retired_word_is_found(word):
    assert uses(word)


def test_no_retired_word_is_used():
    found = [f"{name}:{use}" for name in texts() for use in uses((ROOT / name).read_text(encoding="utf-8"))]
    assert found == []


def test_functions_are_named_by_a_noun_or_a_verb():
    """`costs(…)` or `parse_prices(…)`, not `costs_of(…)`."""
    found = [
        f"{name}:{node.lineno}: {node.name}"
        for name in texts()
        if name.startswith(("python/", "benches/", "tools/")) and name.endswith(".py")
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_of") and node.name != "one_of"
    ]
    assert found == []
