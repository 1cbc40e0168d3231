"""What the site shows runs: Python from top to bottom, commands as they stand; and the site builds."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from eccos_rs import Pool
from eccos_rs.cli.main import COMMANDS
from tests.helpers.commands import free_port, serving
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DOCS = ROOT / "docs"
TUTORIALS = sorted(DOCS.glob("tutorials/*.md"))
PAGES = [DOCS / "index.md", *TUTORIALS, *sorted(DOCS.glob("how-to/*.md"))]
# What runs until it is stopped is started by a test of its own.
SERVERS = ("eccos serve", "eccos replay")


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """Return language and content of the page's blocks, in order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [(language, content) for language, content in found if language in languages]


def commands(text: str) -> list[str]:
    lines = text.replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.startswith("eccos ")]


def given(page: Path, folder: Path) -> None:
    """Lay down what a how-to takes for granted: files of the reader's."""
    texts = ["What is 2+2?", "Prove that there are infinitely many primes."]
    (folder / "questions.txt").write_text("\n".join(texts))
    (folder / "log.jsonl").write_text("\n".join(json.dumps({"query": text}) for text in texts))
    for _, pool in blocks(page, "toml"):
        if "[[scenario]]" in pool:
            (folder / "scenarios.toml").write_text(pool)
            continue
        assert Pool.from_toml(pool).names
        (folder / "pool.toml").write_text(pool)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "eccos train" in page.read_text(encoding="utf-8"):
        pytest.importorskip("torch", reason="training needs torch (the extra `train`)")
    monkeypatch.chdir(tmp_path)
    given(page, tmp_path)
    space: dict[str, object] = {}
    for number, (language, content) in enumerate(blocks(page, "python", "sh"), 1):
        if language == "python":
            exec(compile(content, f"{page.name}, block {number}", "exec"), space)
            continue
        for line in commands(content):
            if line.startswith((*SERVERS, "eccos --install-completion")):
                continue
            done = subprocess.run(
                [sys.executable, "-m", "eccos_rs", *shlex.split(line)[1:]],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{line}: {done.stderr}"


@pytest.mark.timeout(600)
def test_the_first_gateway_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both servers as the tutorial starts them, asked by its curl and by the clients of the examples."""
    pytest.importorskip("openai")
    page = DOCS / "tutorials" / "first-gateway.md"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPLAY_KEY", "none")
    for _, content in blocks(page, "python"):
        exec(compile(content, page.name, "exec"), {})
    (_, pool), ports = blocks(page, "toml")[0], (free_port(), free_port())
    (tmp_path / "pool.toml").write_text(pool.replace("127.0.0.1:8090", f"127.0.0.1:{ports[0]}"))
    shell = "".join(content for _, content in blocks(page, "sh"))
    replay, serve = commands(shell)
    assert replay.startswith("eccos replay")
    asked = shlex.split(blocks(page, "bash")[0][1].replace("\\\n", " "))
    body = json.loads(asked[asked.index("-d") + 1])
    with serving(replay, ports[0], tmp_path), serving(serve, ports[1], tmp_path) as url:
        got = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)
        assert got.status_code == 200
        assert got.headers["x-eccos-model"] in ("gemini-1.5-flash", "gpt-4o")
        script = ROOT / "examples" / "gateway_clients.py"
        done = subprocess.run([sys.executable, str(script), url], capture_output=True, text=True, check=True)
    assert re.search(r"^HTTP: g.*: ", done.stdout, re.MULTILINE)
    assert re.search(r"^openai: \d+ parts: ", done.stdout, re.MULTILINE)


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert {page for page in pages if page not in text} == set()


@pytest.mark.timeout(300)
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    called = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    done = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "reference" / "cli" / "index.html").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"eccos {name}" in page
    assert "--min-quality" in page
    api = (tmp_path / "site" / "reference" / "api" / "index.html").read_text(encoding="utf-8")
    assert "certified" in api or "min_quality" in api
