"""Collections that are killed, interrupted or out of disk, and go on: nothing asked twice, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from eccos_rs.records import read_records
from tests.helpers.endpoints import Handler, Request, journal_events, misbehaving, pool_toml, sum_tasks

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
SLOTS = 3


def command(folder: Path, *more: str) -> list[str]:
    line = [sys.executable, "-m", "eccos_rs.cli.main", "collect", "tasks.jsonl", "--pool", "pool.toml"]
    return [*line, "--out", "out.jsonl", "--max-output-tokens", "8", "--json", *more]


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command(folder, *more), cwd=folder, **pipes)  # type: ignore[call-overload,no-any-return]


def answered(folder: Path) -> list[str]:
    """Calls that the journal has answers for; a torn last line is not yet one."""
    path = folder / "out.jsonl.journal.jsonl"
    lines = path.read_bytes().split(b"\n")[1:-1] if path.exists() else []
    events = [json.loads(line) for line in lines]
    return [event["call"] for event in events if event["event"] == "answered"]


def wait_for(condition: object, process: subprocess.Popen[str], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def slowly(handler: Handler, request: Request) -> None:
    time.sleep(0.05)
    handler.answer()


def test_kill_and_go_on(tmp_path):
    with misbehaving(slowly) as server:
        sum_tasks(tmp_path / "tasks.jsonl", 40)
        models = [{"name": name, "url": server.url, "slots": SLOTS} for name in ("a", "b")]
        pool_toml(tmp_path / "pool.toml", *models)
        kills = 3
        for _ in range(kills):
            before = len(answered(tmp_path))
            process = start(tmp_path)
            wait_for(lambda wanted=before + 8: len(answered(tmp_path)) >= wanted, process)
            process.kill()
            process.communicate()
            safe, asked = set(answered(tmp_path)), Counter(server.keys)
            assert len(safe) >= before + 8
            time.sleep(0.2)
        process = start(tmp_path)
        told, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        final = Counter(server.keys)
    summary = json.loads(told)
    assert (summary["stopped"], summary["answered"], summary["records"]) == ("done", 80, 40)
    # Nothing that the journal had an answer for was asked again.
    assert summary["found"] == len(safe)
    assert all(final[key] == asked[key] for key in safe)
    # All 80 stand in the journal once, and each pair once in the records.
    assert sorted(answered(tmp_path)) == sorted(set(answered(tmp_path)))
    assert len(final) == 80
    assert sum(len(record.outputs) for record in read_records(tmp_path / "out.jsonl")) == 80
    # Only calls that were under way at a kill were made again, and their money is not forgotten.
    again = sum(final.values()) - 80
    assert again <= kills * 2 * SLOTS
    cut = list(journal_events(tmp_path / "out.jsonl.journal.jsonl", "unsure"))
    assert again <= len(cut) <= kills * 2 * SLOTS
    assert summary["spent_usd"] == pytest.approx(80 * 46e-6)
    assert summary["unsure_usd"] == pytest.approx(sum(event["unsure_usd"] for event in cut))


def test_the_ceiling_holds_across_kills(tmp_path):
    ceiling = 0.0022
    with misbehaving(slowly) as server:
        sum_tasks(tmp_path / "tasks.jsonl", 60)
        pool_toml(tmp_path / "pool.toml", {"name": "a", "url": server.url, "slots": SLOTS})
        process = start(tmp_path, "--max-cost", str(ceiling))
        wait_for(lambda: len(answered(tmp_path)) >= 6, process)
        process.kill()
        process.communicate()
        process = start(tmp_path, "--max-cost", str(ceiling))
        told, _ = process.communicate(timeout=60)
        billed = len(server.keys) * 46e-6
    summary = json.loads(told)
    assert process.returncode == 1
    assert summary["stopped"] == "max_cost"
    assert billed <= summary["spent_usd"] + summary["unsure_usd"] + 1e-12 <= ceiling


def test_ctrl_c_ends_in_130_and_goes_on(tmp_path):
    with misbehaving(slowly) as server:
        sum_tasks(tmp_path / "tasks.jsonl", 40)
        pool_toml(tmp_path / "pool.toml", {"name": "a", "url": server.url, "slots": SLOTS})
        process = start(tmp_path)
        wait_for(lambda: len(answered(tmp_path)) >= 4, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        safe = set(answered(tmp_path))
        process = start(tmp_path)
        told, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert json.loads(told)["found"] == len(safe)
    counts = Counter(server.keys)
    assert all(counts[key] == 1 for key in safe)


def test_a_full_disk_stops_the_run_and_the_next_one_mends_the_journal(tmp_path):
    with misbehaving(slowly) as server:
        sum_tasks(tmp_path / "tasks.jsonl", 30)
        pool_toml(tmp_path / "pool.toml", {"name": "a", "url": server.url, "slots": SLOTS})
        limited = f"ulimit -f 3; exec {' '.join(command(tmp_path))}"  # blocks of 1 KiB
        run = subprocess.run(
            ["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert run.returncode == 1
        assert "out.jsonl.journal.jsonl: cannot be written: File too large" in run.stderr
        assert "Traceback" not in run.stderr
        safe = set(answered(tmp_path))
        assert 0 < len(safe) < 30
        run = subprocess.run(command(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    assert (summary["answered"], summary["found"]) == (30, len(safe))
    counts = Counter(server.keys)
    assert all(counts[key] == 1 for key in safe)


def test_a_terminal_shows_the_money(tmp_path):
    """A terminal, unlike a pipe, gets the bar with what was spent of what may be."""
    import pty

    with misbehaving(slowly) as server:
        sum_tasks(tmp_path / "tasks.jsonl", 8)
        pool_toml(tmp_path / "pool.toml", {"name": "a", "url": server.url, "slots": 1})
        ours, theirs = pty.openpty()
        wide = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
        line = command(tmp_path, "--max-cost", "0.5")
        process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs, env=wide)
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            shown += part
        os.close(ours)
        assert process.wait(30) == 0
    text = shown.decode()
    assert "/8" in text
    assert "of 0.5" in text
    assert "US$ 0.000" in text
