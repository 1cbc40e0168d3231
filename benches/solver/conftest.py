"""Where the generator lies, and the table at the end."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    from benches.solver import table

    if table.RESULTS:
        terminalreporter.section("the solver beside others")
        terminalreporter.write_line(table.text())
