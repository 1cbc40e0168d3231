"""What the tests of the gateway share."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    """Enter a client, and close it when the test has ended."""
    with ExitStack() as stack:
        yield stack.enter_context
