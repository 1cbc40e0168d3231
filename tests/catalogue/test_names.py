"""Any spelling of a model finds it, and never another: some hundreds of spellings as boards and hosts write
them."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from eccos_rs.catalogue.matching import NameIndex, same_date
from eccos_rs.catalogue.names import parse_name

LINES = [
    [spelling.strip() for spelling in line.split("|")]
    for line in (Path(__file__).parent / "data" / "spellings.txt").read_text("utf-8").splitlines()
    if line.strip() and not line.startswith("#")
]


def test_there_are_a_few_hundred() -> None:
    assert len(LINES) > 140
    assert sum(map(len, LINES)) > 400


@pytest.mark.parametrize("spellings", LINES, ids=lambda spellings: spellings[0])
def test_the_spellings_of_a_line_are_one_model(spellings: list[str]) -> None:
    identities = {spelling: sorted(parse_name(spelling).identity) for spelling in spellings}
    assert len({tuple(identity) for identity in identities.values()}) == 1, identities


def test_no_two_lines_are_one_model() -> None:
    named = [(line[0], parse_name(line[0]).identity) for line in LINES]
    same = [(one, two) for (one, first), (two, second) in combinations(named, 2) if first == second]
    assert same == []


@pytest.mark.parametrize("spellings", LINES, ids=lambda spellings: spellings[0])
def test_an_index_finds_no_spelling_of_another_line(spellings: list[str]) -> None:
    index = NameIndex(spelling for line in LINES for spelling in line)
    for spelling in spellings:
        assert {match.spelling for match in index.find(spelling)} <= set(spellings)


@pytest.mark.parametrize(
    ("spelling", "effort", "release"),
    [
        ("gpt-5-mini-2025-08-07#high (zero-shot, val)", "high", {"20250807"}),
        ("claude-opus-4-5-20251101-thinking-64k-low-effort", "low", {"20251101"}),
        ("claude-3-7-sonnet-20250219 (no thinking)", "none", {"20250219"}),
        ("Claude-3.7-Sonnet (Thinking)", "thinking", set()),
        ("gemini-2.5-pro-preview-06-05 (default think)", "thinking", {"0605", "preview"}),
        ("gemini-3-pro-preview-11-2025-high", "high", {"202511", "preview"}),
        ("O3-Mini-2025-01-31 (Med)", "medium", {"20250131"}),
        ("gpt-5.1-codex-max-xhigh", "xhigh", set()),
        ("gpt-5.1-codex-max", None, set()),
        ("mistral-medium-2505", None, {"2505"}),
        ("Qwen 3.8 Max (xhigh)", "xhigh", set()),
        ("grok-4-fast-non-reasoning-2511", "none", {"2511"}),
        ("kimi-k2.5-thinking", "thinking", set()),
        ("Llama-3.1-8B-Instruct (FC)", None, set()),
        ("openai/gpt-5.4-nano-2026-03-17#none (zero-shot, val)", "none", {"20260317"}),
    ],
)
def test_effort_and_release_are_read(spelling: str, effort: str | None, release: set[str]) -> None:
    name = parse_name(spelling)
    assert (name.effort, name.release) == (effort, release)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("20240806", "0806", True),
        ("20240806", "0807", False),
        ("20240715", "2407", True),
        ("202407", "2407", True),
        ("20240806", "202408", True),
        ("2407", "2411", False),
        ("20240806", "20240513", False),
    ],
)
def test_dates_in_several_forms(one: str, other: str, same: bool) -> None:
    assert same_date(one, other) is same
    assert same_date(other, one) is same


def test_a_difference_is_told_and_widens() -> None:
    index = NameIndex(
        ["gpt-4o-2024-05-13", "gpt-4o-2024-11-20", "gpt-5-high", "gemini-2.5-pro-preview-05-06"]
    )
    newest, older = index.find("gpt-4o")
    assert newest.spelling == "gpt-4o-2024-11-20"
    assert older.how == "release 20240513"
    assert older.extra_sd > newest.extra_sd
    (other_effort,) = index.find("gpt-5", "low")
    assert other_effort.how == "effort high"
    assert other_effort.extra_sd == pytest.approx(0.3)
    (preview,) = index.find("gemini-2.5-pro")
    assert "preview" in preview.how
    assert index.find("gpt-4o-mini") == []


@pytest.mark.parametrize("spelling", ["", " ", "/", "((", "#", "---", "@", "\x00", "é" * 300, "-" * 1000])
def test_no_spelling_is_too_odd(spelling: str) -> None:
    assert NameIndex(["gpt-4o"]).find(spelling) == []
