"""What every test shares."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.engine import served  # noqa: F401 - a fixture for all
from tests.helpers.paths import ROOT

# How long an example takes is the machine's affair: speed is checked by benchmarks.
settings.register_profile("eccos", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("eccos")

# A shell's background job ignores Ctrl-C and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real routing data; `ECCOS_DATA` names it, else it is looked for beside the checkout."""
    place = Path(os.environ.get("ECCOS_DATA", ROOT.parent / "shared" / "data"))
    if not (place / "qaserve_public.parquet").is_file():
        absent = f"the real data is not at {place}; set ECCOS_DATA to run this test"
        if os.environ.get("ECCOS_REQUIRE_DATA"):
            pytest.fail(absent)
        pytest.skip(absent)
    return place
