"""What the package leaves on the user's machine: nothing, and nothing of it is sent."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from eccos_rs.predict.runtime import TELEMETRY_SWITCH
from tests.helpers.paths import ROOT

ROUTE = "import eccos_rs; print(eccos_rs.route(['What is 2 + 2?'], min_quality=0.6).status)"
CACHE = Path(".cache/Microsoft/DeveloperTools/.onnxruntime")


def in_an_empty_home(home: Path, code: str, **more: str) -> list[Path]:
    """Run code as a user whose home is an empty folder; returns the files it leaves there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    kept.pop(TELEMETRY_SWITCH, None)
    environment = {**kept, "HOME": str(home), "USERPROFILE": str(home), "LOCALAPPDATA": str(home), **more}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=home, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return [path.relative_to(home) for path in home.rglob("*") if path.is_file()]


def test_routing_leaves_no_file_behind(tmp_path: Path) -> None:
    assert in_an_empty_home(tmp_path, ROUTE) == []


def test_looking_for_a_device_leaves_no_file_behind(tmp_path: Path) -> None:
    code = "from eccos_rs.predict.device import device_report; device_report().to_dict()"
    assert in_an_empty_home(tmp_path, code) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the folder is that of Linux")
def test_who_wants_telemetry_has_it(tmp_path: Path) -> None:
    """And so the test above sees something that would be there, on a machine where the runtime collects."""
    left = in_an_empty_home(tmp_path, f"{ROUTE}; import time; time.sleep(2)", **{TELEMETRY_SWITCH: "0"})
    assert all(CACHE in path.parents for path in left)
    if not left:
        pytest.skip("the runtime collects nothing on this machine, whatever it is told")


def test_one_place_imports_the_runtime() -> None:
    """Whoever imports it elsewhere starts its telemetry."""
    imports = re.compile(r"^\s*(import onnxruntime|from onnxruntime)", re.MULTILINE)
    sources = {
        path.name
        for path in (ROOT / "python").rglob("*.py")
        if imports.search(path.read_text(encoding="utf-8"))
    }
    # device.py reads the version of CUDA out of a module of the runtime, which runtime.py has imported then.
    assert sources == {"runtime.py", "device.py"}


def test_a_wheel_of_the_package_stays_below_sixty_megabytes() -> None:
    package = ROOT / "python" / "eccos_rs"
    # `glob` follows the link to the bundles, which the build puts in place of it.
    files = [*package.rglob("*"), *(package / "models").glob("*/*")]
    kept = {path.resolve() for path in files if path.is_file() and "__pycache__" not in path.parts}
    assert any(path.name == "weights.bin" for path in kept)
    assert sum(len(zlib.compress(path.read_bytes(), 6)) for path in kept) < 60e6
