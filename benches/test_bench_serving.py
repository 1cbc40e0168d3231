"""The benches of the gateway and of steering, each run once: what they claim is checked by themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benches.settings import ONCE

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("ECCOS_DATA", ROOT.parent / "shared" / "data")) / "qaserve_public.parquet"

pytestmark = pytest.mark.skipif(not ONCE, reason="run each by itself for its figures")


def run(script: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"benches.{script}", *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_gateways_latency() -> None:
    assert "added" in run("gateway")


def test_streams_and_churn() -> None:
    assert '"threads after"' in run("soak", "--streams", "50", "--slots", "10", "--seconds", "1")


@pytest.mark.skipif(not DATA.is_file(), reason="needs the labelled queries")
def test_steering() -> None:
    assert "floor on every 64" in run("steering", str(DATA), "--floor", "0.7")


@pytest.mark.skipif(not DATA.is_file(), reason="needs the labelled queries")
def test_forecast_and_settled_cost() -> None:
    assert run("settled", str(DATA)).count("median error") == 4
