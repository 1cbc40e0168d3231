"""What a shadow run found, and whether to go further."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eccos_rs.cli.main import main
from eccos_rs.errors import InputError
from eccos_rs.serve.shadow.report import read_report


def written(path, *, units=60, each=2, cost=0.3, lost=0.0, judged=True, share=0.0, noise=0.1):
    """Write a log: routing costs this share of today's, and is graded lower by so much."""
    rng, lines = np.random.default_rng(3), []
    for number in range(units * each):
        arm = "routed" if number % units < share * units else "as-is"
        spread = float(np.exp(rng.normal(0, 0.3)))
        routed, as_is = {"usd": cost * 0.01 * spread, "quality": 0.8}, {"usd": 0.01 * spread, "quality": 0.85}
        lines.append({
            "kind": "decision", "id": str(number), "at": 1.0, "unit": f"u{number % units}",
            "arm": arm, "as_is": "large", "routed": "small", "expected": {"as_is": as_is, "routed": routed},
            "failed": False, "usd": (routed if arm == "routed" else as_is)["usd"],
        })  # fmt: skip
        if judged:
            grade = 0.8 - (lost if arm == "routed" else 0.0) + rng.normal(0, noise)
            told = {"routed": grade} if arm == "routed" else {"as_is": grade}
            if not share:
                told["routed"] = 0.8 - lost + rng.normal(0, noise)
            lines += [
                {"kind": "judging", "id": str(number), "usd": 0.02},
                {"kind": "judged", "id": str(number), "usd": 0.001, "quality": told},
            ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("given", "decision", "said"),
    [
        ({}, "go on", "70 % less is expected to be paid"),
        ({"lost": 0.2}, "stop", "graded lower by more than 5 points"),
        ({"cost": 1.2}, "stop", "not expected to cost less"),
        ({"judged": False}, "undecided", "0 graded answers say nothing of quality"),
        ({"units": 10}, "undecided", "10 users or conversations"),
        ({"lost": 0.045, "noise": 0.3}, "undecided", "is open"),
    ],
)
def test_the_decision(tmp_path, given, decision, said):
    found = read_report(written(tmp_path / "s.jsonl", **given))
    assert found.decision == decision
    assert said in found.sentence


def test_figures_and_intervals(tmp_path):
    found = read_report(written(tmp_path / "s.jsonl", units=100, lost=0.03))
    assert found.cost.value == pytest.approx(0.3)
    assert found.quality.value == pytest.approx(-0.05)
    assert (found.requests, found.units, found.routed, found.judged) == (200, 100, 0, 200)
    assert found.graded.low < -0.03 < found.graded.high
    # 200 pairs of two grades with a noise of 0.1 each: 2 x 1.96 standard errors of 0.01.
    assert found.graded.high - found.graded.low == pytest.approx(0.039, rel=0.3)
    assert found.judge_usd == pytest.approx(0.2)
    assert found.moves == [("large", "small", 200)]
    assert np.isnan(found.paid.value)


def test_a_rollout_compares_the_arms(tmp_path):
    found = read_report(written(tmp_path / "s.jsonl", units=200, share=0.25, lost=0.1))
    assert found.routed == 100
    assert found.paid.low < 0.3 < found.paid.high
    assert found.graded.low < -0.1 < found.graded.high
    assert found.decision in ("stop", "undecided")


def test_requests_of_one_user_are_not_so_many_users(tmp_path):
    """The same number of requests of fewer users tells less."""
    wide = read_report(written(tmp_path / "a.jsonl", units=40, each=10, cost=0.9))
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    for row in rows:
        if row["kind"] == "decision":
            heavy = row["unit"] in ("u1", "u2", "u3")
            row["expected"]["routed"]["usd"] = row["expected"]["as_is"]["usd"] * (3.0 if heavy else 0.5)
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clustered = read_report(tmp_path / "b.jsonl")
    assert wide.cost.high - wide.cost.low < 0.001
    assert clustered.cost.high - clustered.cost.low > 0.2


def test_a_torn_last_line_is_left_out(tmp_path):
    path = written(tmp_path / "s.jsonl")
    whole = read_report(path).requests
    path.write_text(path.read_text() + '{"kind": "decision", "id": "x')
    assert read_report(path).requests == whole


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no request was decided yet"),
        ('{"query": 1}\n', "line 1: this is no shadow log"),
        ("[1]\n", "no shadow log"),
    ],
)
def test_what_is_no_shadow_log_is_said(tmp_path, text, said):
    (tmp_path / "s.jsonl").write_text(text)
    with pytest.raises(InputError, match=said):
        read_report(tmp_path / "s.jsonl")


def test_the_command(tmp_path, capsys):
    path = written(tmp_path / "s.jsonl")
    for more in ([], ["--json", "-o", str(tmp_path / "r.html")]):
        with pytest.raises(SystemExit) as ended:
            main(["shadow", str(path), *more])
        assert ended.value.code in (0, None)
    out = capsys.readouterr().out
    table, _, told = out.partition("\n{")
    assert table.rstrip().splitlines()[-1].startswith("go on: 70 % less")
    told = json.loads("{" + told)
    assert told["decision"] == "go on"
    assert told["paid"] == {"value": None, "low": None, "high": None}
    assert "go on: 70 % less" in (tmp_path / "r.html").read_text()
    with pytest.raises(SystemExit) as ended:
        main(["shadow", str(tmp_path / "nowhere.jsonl")])
    assert ended.value.code
    assert "No such file" in capsys.readouterr().err
