"""What docs/data.md and the docstrings say can be run as it stands there."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re

import pytest

import eccos_rs.records
from eccos_rs.pools.pool import Pool
from eccos_rs.records import read_records
from eccos_rs.records.collect import read_tasks
from eccos_rs.records.importers import FORMATS
from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(eccos_rs.records.__path__, "eccos_rs.records.")
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_pages_record_is_a_record(tmp_path):
    record, tasks = blocks("json")
    (tmp_path / "r.jsonl").write_text(" ".join(record.split()) + "\n")
    (only,) = read_records(tmp_path / "r.jsonl")
    assert [output.model for output in only.outputs] == ["small", "large"]
    (tmp_path / "t.jsonl").write_text(tasks)
    kinds = [task.kind for task in read_tasks(tmp_path / "t.jsonl")]
    assert kinds == ["multiple_choice", "numeric", "exact", "free"]


def test_the_pages_pool_is_a_pool():
    (text,) = blocks("toml")
    assert Pool.from_toml(text)["small"].slots == 4


def test_the_pages_code_runs(tmp_path, monkeypatch):
    formats = ROOT / "tests" / "data" / "formats"
    renamed = (
        (formats / "records.jsonl").read_text().replace("ant-small", "small").replace("ant-large", "large")
    )
    (tmp_path / "qa.jsonl").write_text(renamed)
    from eccos_rs.records import write_records

    write_records(tmp_path / "qa.parquet", read_records(tmp_path / "qa.jsonl"))
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(code, "docs/data.md", "exec"), names)
    assert {"train", "test", "small"} <= set(names)


def test_the_page_names_every_form():
    for form in FORMATS:
        assert f"`{form}`" in PAGE
