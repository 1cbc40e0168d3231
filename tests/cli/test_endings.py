"""How a command ends where it cannot go on: interrupts, readers that go away, extras that are not there."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.paths import ROOT

SAMPLES = ROOT / "examples" / "queries.jsonl"


def test_an_interrupt_that_passed_through_exec_ends_in_130():
    """An import may run a text by exec(), as torch does: Python then kills itself with SIGINT at its end."""
    code = (
        "from eccos_rs.cli import main\n"
        "main.program = lambda arguments: lambda *a, **k: exec('raise KeyboardInterrupt')\n"
        "main.main([])"
    )
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "eccos: interrupted\n")


def test_ctrl_c_ends_in_130_with_nothing_half_written(tmp_path):
    queries = tmp_path / "many.txt"
    queries.write_text(
        "\n".join(f"What is {n} times {n + 1}? Explain it to a child." for n in range(100_000))
    )
    out = tmp_path / "plan.jsonl"
    command = [sys.executable, "-m", "eccos_rs", "route", str(queries), "-f", "jsonl", "-o", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        time.sleep(5)
        assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 130
    assert errors.decode() == "eccos: interrupted\n"
    assert sorted(tmp_path.iterdir()) == [queries]


def test_a_reader_that_goes_away_is_no_traceback():
    command = f"{sys.executable} -m eccos_rs.cli.main route {SAMPLES} -f jsonl | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "lacks", "what", "extra"),
    [
        (("train", "x.jsonl", "-o", "made"), "torch", "training", "train"),
        (("distil", "x.jsonl", "-o", "made"), "torch", "training", "train"),
        (("serve",), "starlette", "the gateway", "serve"),
        (("replay", "x.jsonl"), "starlette", "the replay server", "serve"),
    ],
)
def test_a_command_names_the_extra_that_it_lacks(arguments, lacks, what, extra, tmp_path):
    hidden = f"import sys; sys.modules[{lacks!r}] = None"
    code = f"{hidden}; from eccos_rs.cli.main import main; main({arguments!r})"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"eccos: {what} needs {lacks}")
    assert done.stderr.endswith(f": pip install 'eccos-rs[{extra}]'\n")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
