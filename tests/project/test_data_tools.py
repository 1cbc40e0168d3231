"""`make data`: sets are checked against what the figures were made from, and built from pinned files."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = ROOT / "tools" / "data"
CL100K = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
QUESTION = "\n## Question: \n\nHow many legs have {} ants?\n\n\n## Instruction \n\nAnswer in JSON."


def build(tools: Path, *words: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(tools / "build.py"), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def object_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_real_sets_are_the_recorded_ones(data_dir: Path) -> None:
    code, told = build(TOOLS, data_dir, "--check")
    assert (code, told.count("the very file that the figures were made from")) == (0, 10), told


def test_what_is_not_there_and_what_is_another_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "mixed_tasks.parquet").write_bytes(b"something else")
    code, told = build(TOOLS, tmp_path, "--check", "--only", "mixed_tasks", "--only", "code_execution")
    assert code == 1
    assert "mixed_tasks.parquet: is another file than the one" in told
    assert "code_execution.parquet: is not there" in told
    assert "wanted some of qaserve_public" in build(TOOLS, tmp_path, "--only", "qaserv")[1]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The tools with one source of one file of three answers; returns them and the folder that serves it."""
    pytest.importorskip("tiktoken")
    litellm = importlib.util.find_spec("litellm")
    encodings = (
        [] if litellm is None or litellm.origin is None else list(Path(litellm.origin).parent.rglob(CL100K))
    )
    if not encodings and "TIKTOKEN_CACHE_DIR" not in os.environ:
        pytest.skip("the encoding that counts tokens is not on this machine")
    if encodings:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(encodings[0].parent))
    tools, served = tmp_path / "tools", tmp_path / "served"
    shutil.copytree(TOOLS, tools, ignore=shutil.ignore_patterns("__pycache__"))
    said = ['{"reasoning": "6 each", "answer": "6"}', "So it is \\boxed{12}.", '{"answer": "17"}']
    rows = [
        {
            "session_id": f"crux-test-#{at}",
            "chat_history": [QUESTION.format(at)],
            "output": [text],
            "answer": truth,
        }
        for at, (text, truth) in enumerate(zip(said, ("6", "12", "18"), strict=True))
    ]
    data = json.dumps(rows).encode()
    (served / "some" / "one" / "abc").mkdir(parents=True)
    (served / "some" / "one" / "abc" / "m.json").write_bytes(data)
    entry = {"repository": "some/one", "commit": "abc", "files": {"crux/m": ["m.json", object_id(data)]}}
    (tools / "sources.json").write_text(json.dumps({"zeroeval": entry}))
    (tools / "questions.json").write_text(json.dumps({"crux": f"{0b111:x}"}))
    head = "file,model,usd_per_million_input,usd_per_million_output\n"
    (tools / "prices.csv").write_text(f"{head}zeroeval,m,1.0,2.0\n")
    return tools, served


def test_a_set_is_built_from_what_is_served_and_compared(small: tuple[Path, Path], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    tools, served = small
    recorded = {
        "code_execution": {"file": "code_execution.parquet", "sha256": "", "source": "", "models": {}}
    }
    (tools / "sets.json").write_text(json.dumps(recorded))
    with serving(served) as host:
        words = (tmp_path / "out", "--host", host, "--only", "code_execution")
        assert build(tools, *words)[0] == 0
        made = pq.read_table(tmp_path / "out" / "code_execution.parquet").to_pylist()
        assert [(row["query_id"], row["quality"]) for row in made] == [
            ("zeroeval-crux/0", 1.0), ("zeroeval-crux/1", 1.0), ("zeroeval-crux/2", 0.0)
        ]  # fmt: skip
        assert made[1]["query"] == "How many legs have 1 ants?"
        cost = (made[1]["input_tokens"] * 1.0 + made[1]["output_tokens"] * 2.0) / 1e6
        assert made[1]["cost_usd"] == pytest.approx(cost)
        # The same answers under other digests are not what the figures were made from.
        recorded["code_execution"]["models"] = {"m": ["0" * 16, 2.0, 3]}  # type: ignore[assignment]
        (tools / "sets.json").write_text(json.dumps(recorded))
        code, told = build(tools, *words)
        assert (code, "not as recorded: m" in told) == (1, True)


def test_a_file_that_is_not_the_pinned_one_is_refused(small: tuple[Path, Path], tmp_path: Path) -> None:
    tools, served = small
    path = served / "some" / "one" / "abc" / "m.json"
    path.write_bytes(path.read_bytes().replace(b"18", b"17"))
    with serving(served) as host:
        code, told = build(tools, tmp_path / "out", "--host", host, "--only", "code_execution")
    assert code == 1
    assert "m is left out: " in told
    assert f"got the git object {object_id(path.read_bytes())}, wanted" in told
    assert not list((tmp_path / "out" / "sources").glob("*"))
