"""`eccos start` from a log to a verdict, over real HTTP: money, journal, judge, endpoints that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from eccos_rs import Pool, Router
from eccos_rs.cli.main import main
from tests.helpers.endpoints import Handler, Misbehaving, Request, journal_events, misbehaving
from tests.helpers.grading import answering, behave, judge_file, log_file, pool_file, question

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)


def run(folder: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Run the command in-process on `log.jsonl`; returns the exit status and what it wrote."""
    line = ["start", str(folder / "log.jsonl"), "--pool", str(folder / "pool.toml"), "--attempts", "2"]
    with pytest.raises(SystemExit) as ended:
        main([*line, "--out", str(folder / "out"), "--max-output-tokens", "200", *more])
    code = ended.value.code
    path = folder / "out" / "result.json"
    return (0 if code is None else int(code)), json.loads(path.read_text()) if path.exists() else {}


def given(folder: Path, server: Misbehaving, count: int = 240, **more: Any) -> list[str]:
    log_file(folder / "log.jsonl", count, **more)
    pool_file(folder / "pool.toml", server.url)
    return ["--judge", str(judge_file(folder / "judge.toml", server.url))]


def test_from_a_log_to_deploy(tmp_path, capsys):
    """The large model is needed for one kind of three: the small one for the rest keeps its quality."""
    with misbehaving(answering) as server:
        code, told = run(tmp_path, "--spend", "1", *given(tmp_path, server))
        asked = [request.body["model"] for request in server.requests]
    printed = capsys.readouterr().out
    assert code == 0
    verdict = told["verdict"]
    assert (verdict["decision"], verdict["measured"]) == ("deploy", True)
    assert 0.2 < verdict["cost"]["value"] < 0.7
    assert verdict["quality"]["low"] > -0.05 < verdict["over_mix"]["low"]
    assert verdict["over_mix"]["value"] > 0.05
    assert printed.rstrip().splitlines()[-1] == f"verdict: {verdict['sentence']}"
    assert told["answers"]["spent_usd"] <= 1.0
    assert asked.count("small") == asked.count("large") == told["complete"]
    # The judge's own noise, from grades that were asked for twice.
    assert told["judge"]["graded_twice"] > 5
    assert 0.0 < told["judge"]["grade_std"] < 0.2
    # What was written serves.
    router = Router.load(tmp_path / "out" / "bundle")
    assert router.pool == Pool.load(tmp_path / "out" / "pool.toml")
    assert all(row.labels > 100 for row in router.knowledge())
    report = (tmp_path / "out" / "report.html").read_text()
    assert "127.0.0.1" in report
    assert "tenants" not in report or "case 1 about" not in report


def test_money_binds_and_more_money_asks_nothing_twice(tmp_path):
    with misbehaving(answering) as server:
        judge = given(tmp_path, server)
        _, first = run(tmp_path, "--spend", "0.06", *judge)
        before = set(server.keys)
        assert 0 < first["complete"] < 240
        assert first["answers"]["spent_usd"] + first["answers"]["unsure_usd"] <= 0.06
        assert len(server.keys) == len(before)
        _, second = run(tmp_path, "--spend", "0.12", *judge)
    assert len(server.keys) == len(set(server.keys))
    assert first["complete"] < second["complete"]
    assert second["answers"]["spent_usd"] <= 0.12


def test_the_forecast_alone_asks_nobody(tmp_path, capsys):
    with misbehaving(answering) as server:
        given(tmp_path, server)
        code, told = run(tmp_path)
        assert (code, server.requests) == (0, [])
    assert told["verdict"]["measured"] is False
    assert told["sent"] == []
    assert Router.load(tmp_path / "out" / "bundle").pool.names == ("small", "large")
    assert "Nothing: no request left this machine." in (tmp_path / "out" / "report.html").read_text()
    capsys.readouterr()


@pytest.mark.parametrize("rows", [1, 500])
def test_a_log_of_one_request_decides_nothing(rows, tmp_path, capsys):
    with misbehaving(answering) as server:
        given(tmp_path, server)
        line = {"model": "small", "messages": [{"role": "user", "content": "Name a river."}]}
        (tmp_path / "log.jsonl").write_text((json.dumps(line) + "\n") * rows)
        code, told = run(tmp_path)
        assert (code, server.requests) == (0, [])
    assert (told["verdict"]["decision"], told["verdict"]["reason"]) == ("undecided", "few")
    assert told["verdict"]["sentence"].startswith("undecided by published scores alone")
    capsys.readouterr()


def test_a_secret_of_the_log_goes_to_the_endpoints_and_nowhere_else(tmp_path, capsys):
    """It is in what was asked and in the answers' file; not in bundle, report, figures or on the terminal."""
    secret = "sk-live-Zq9hunterhunter"
    with misbehaving(answering) as server:
        judge = given(tmp_path, server)
        rows = [
            {"model": "large", "messages": [
                {"role": "system", "content": f"The key is {secret}."},
                {"role": "user", "content": f"{question(number)} Use {secret} and password=Zq9hunterhunter."},
            ]} for number in range(40)
        ]  # fmt: skip
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "log.jsonl").write_text(f'{text}{{"query": 5, "note": "{secret}"}}\n{{"torn": "{secret}"')
        _, told = run(tmp_path, "--spend", "1", *judge)
        assert all(secret in json.dumps(request.body) for request in server.requests)
        host = server.url.removeprefix("http://").removesuffix("/v1")
    assert {row["host"] for row in told["sent"]} == {host}
    assert sum(row["calls"] for row in told["sent"]) == len(server.requests)
    held = [
        path.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and b"hunterhunter" in path.read_bytes().lower()
    ]
    assert held == ["answers.jsonl"]
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0 or os.name != "posix"
    printed = capsys.readouterr()
    assert "hunterhunter" not in printed.out + printed.err


def test_a_dry_run_says_the_price_and_writes_nothing(tmp_path, capsys):
    with misbehaving(answering) as server:
        judge = given(tmp_path, server)
        code, _ = run(tmp_path, "--spend", "0.05", "--dry-run", "--json", *judge)
        assert server.requests == []
    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert not (tmp_path / "out").exists()
    assert 0 < told["plan"]["expected_usd"] <= 0.05
    assert set(told["plan"]["models"]) == {"small", "large"}
    assert told["plan"]["judging_usd"] > 0


def test_expected_answers_need_no_judge(tmp_path):
    """Grading is by rule where the log has an answer; the judge is neither needed nor asked."""

    def solving(handler: Handler, request: Request) -> None:
        a, b = request.body["messages"][0]["content"].split("?")[0].split()[-3::2]
        handler.answer(f"Answer: {int(a) + int(b) + (request.body['model'] == 'small')}")

    rows = [{"query": f"What is {a} + {a % 7}?", "answer": a + a % 7} for a in range(60)]
    with misbehaving(solving) as server:
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        pool_file(tmp_path / "pool.toml", server.url)
        _, told = run(tmp_path, "--spend", "1")
        assert {request.body["model"] for request in server.requests} == {"small", "large"}
    assert told["judge"] is None
    assert told["complete"] == 60
    assert told["verdict"]["decision"] == "do not"


def test_an_endpoint_dies_half_way(tmp_path):
    def dying(handler: Handler, request: Request) -> None:
        if sum(each.body["model"] == "small" for each in list(server.requests)) > 20:
            handler.refuse(500)
        else:
            answering(handler, request)

    with misbehaving(behave(small=dying)) as server:
        judge = given(tmp_path, server, 90)
        pool_file(tmp_path / "pool.toml", server.url, ("small", "large", "middle"))
        code, told = run(tmp_path, "--spend", "1", *judge)
        calls = sum(each.body["model"] == "small" for each in server.requests)
    assert code == 0
    assert list(told["left_out"]) == ["small"]
    # Left alone after five calls in a row, those under way ended; 20 + 2 x 70 would be all of them.
    assert calls < 100
    assert told["complete"] == 90
    assert Pool.load(tmp_path / "out" / "pool.toml").names == ("large", "middle")
    assert any("small gave" in remark for remark in told["remarks"])


def test_a_judge_that_answers_prose_stops_the_spending(tmp_path, capsys):
    def chatty(handler: Handler, request: Request) -> None:
        handler.answer("This answer reads rather well, I must say.")

    with misbehaving(behave(judge=chatty)) as server:
        code, told = run(tmp_path, "--spend", "1", *given(tmp_path, server))
        asked = len(server.requests)
    assert code == 1
    assert asked < 150
    assert "reads rather well" in " ".join(told["remarks"])
    assert told["verdict"]["measured"] is False
    capsys.readouterr()


def test_a_judge_that_says_its_score_in_prose_is_read(tmp_path):
    def chatty(handler: Handler, request: Request) -> None:
        good = "[Answer to grade]\nright" in request.body["messages"][0]["content"]
        handler.answer(f"All in all I would give it {'9' if good else '2'} out of 10.")

    with misbehaving(behave(judge=chatty)) as server:
        _, told = run(tmp_path, "--spend", "1", *given(tmp_path, server))
    assert told["complete"] == 240
    assert told["verdict"]["decision"] == "deploy"


def test_a_judge_that_prefers_itself_is_shown(tmp_path, capsys):
    """The judge answers too, and grades its own answers as perfect."""

    def vain(handler: Handler, request: Request) -> None:
        text = request.body["messages"][-1]["content"]
        if "[Answer to grade]" not in text:
            handler.answer("mine, and wrong", completion_tokens=60)
        else:
            handler.answer(f"Score: {10 if 'mine' in text else 3}")

    with misbehaving(behave(vain=vain)) as server:
        log_file(tmp_path / "log.jsonl", 90)
        pool_file(tmp_path / "pool.toml", server.url, ("small", "vain", "large"))
        _, told = run(tmp_path, "--spend", "1", "--judge", "vain")
    own = told["judge"]["own"]
    assert own["model"] == "vain"
    assert own["prefers_itself"] is True
    assert own["ahead"] == pytest.approx(0.7, abs=0.01)
    assert "it prefers itself" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_anywhere_it_goes_on(tmp_path, how):
    def slowly(handler: Handler, request: Request) -> None:
        time.sleep(0.02)
        answering(handler, request)

    with misbehaving(slowly) as server:
        judge = given(tmp_path, server, 60)
        line = [
            sys.executable,
            "-m",
            "eccos_rs.cli.main",
            "start",
            "log.jsonl",
            "--pool",
            "pool.toml",
            *judge,
        ]
        line += ["--spend", "1", "--out", "out", "--max-output-tokens", "200", "--json"]
        process = subprocess.Popen(
            line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while len(server.answered) < 40:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(how)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors
        assert not (tmp_path / "out" / "result.json").exists()
        journal = tmp_path / "out" / "answers.jsonl.journal.jsonl"
        whole = journal.read_bytes().rpartition(b"\n")[0] + b"\n"
        journal.write_bytes(whole)
        safe = {event["call"] for event in journal_events(journal, "answered")}
        _, told = run(tmp_path, "--spend", "1", *judge)
    assert len(safe) > 5
    assert told["complete"] == 60
    assert all(server.keys.count(call) == 1 for call in safe)
