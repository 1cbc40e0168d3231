"""The pinned versions: plain lines, each package once, and everything that the project asks for by name."""

from __future__ import annotations

import re
import tomllib

from tests.helpers.paths import ROOT

PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)")
ELSEWHERE = {"eccos-rs", "onnxruntime"}
"""The package itself, and the runtime of other systems than the one that the file is made on."""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    found = [PIN.fullmatch(line) for line in lines if line and not line.startswith("#")]
    assert all(found), lines[found.index(None)]
    return [plain(match[1]) for match in found if match]


def test_each_package_is_pinned_once() -> None:
    names = pinned()
    assert sorted(names) == sorted(set(names))


def test_what_is_asked_for_is_pinned() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = told["project"]["optional-dependencies"]
    lists = [told["project"]["dependencies"], *extras.values(), *told["dependency-groups"].values()]
    wanted = {
        plain(re.split(r"[\[<>=!~; ]", each)[0]) for one in lists for each in one if isinstance(each, str)
    }
    assert wanted - ELSEWHERE - set(pinned()) == set()
