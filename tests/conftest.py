"""What every test shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.engine import served  # noqa: F401 - a fixture for all
from tests.helpers.paths import ROOT


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
