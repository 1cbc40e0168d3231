"""`import eccos_rs` is light, and every public name is there."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import eccos_rs

HEAVY = (
    "onnxruntime",
    "hnswlib",
    "tokenizers",
    "starlette",
    "uvicorn",
    "aiohttp",
    "httpx",
    "torch",
    "pandas",
    "rich",
    "typer",
)


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_loads_nothing_heavy():
    code = f"import sys, eccos_rs; print([name for name in {HEAVY} if name in sys.modules])"
    assert python(code).strip() == "[]"


def test_importing_takes_no_longer_than_numpy_and_50_ms():
    # numpy is loaded before the clock starts, so its own time and the noise of the machine are left out.
    code = (
        "from time import perf_counter as now; import numpy; start = now(); "
        "import eccos_rs; print(now() - start)"
    )
    assert min(float(python(code)) for _ in range(3)) < 0.05


def test_the_data_classes_and_the_solver_come_without_the_predictors():
    code = (
        "import sys; from eccos_rs import Query, Pool, Policy, Router, Plan, assign; "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert python(code).strip() == "[]"


@pytest.mark.parametrize("name", eccos_rs.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(eccos_rs, name)
    assert name in dir(eccos_rs)
    if name != "__version__":
        assert value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Rooter'"):
        _ = eccos_rs.Rooter


def test_the_type_checker_sees_the_names_that_are_there():
    tree = ast.parse(Path(eccos_rs.__file__).read_text(encoding="utf-8"))
    seen = {
        (alias.name, (node.module or "").removeprefix("eccos_rs."))
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eccos_rs.")
        for alias in node.names
    }
    assert seen == set(eccos_rs._HOMES.items())
    assert set(eccos_rs.__all__) == {*eccos_rs._HOMES, "__version__"}


def test_the_version_has_one_home():
    from importlib.metadata import version

    from eccos_rs import _core

    assert eccos_rs.__version__ == version("eccos-rs") == _core.__version__
