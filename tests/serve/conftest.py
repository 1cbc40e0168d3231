"""What the tests of the gateway share."""

from __future__ import annotations

import gc
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_to_the_next() -> Iterator[None]:
    """Collect what a module's clients keep open: LangChain and LiteLLM hold connections of ended loops.

    Collected later, it would fail whichever test runs then.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    """Enter a client, and close it when the test has ended."""
    with ExitStack() as stack:
        yield stack.enter_context
