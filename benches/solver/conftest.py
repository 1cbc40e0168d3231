"""Where the generator lies, and the table at the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    import table

    if table.RESULTS:
        terminalreporter.section("the solver beside others")
        terminalreporter.write_line(table.text())
