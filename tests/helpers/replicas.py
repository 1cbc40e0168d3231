"""Processes that share a store: each runs a session as a script says, and prints what came of it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from tests.helpers.paths import ROOT

__all__ = ["replica"]

_SCRIPT = """
    import asyncio, json, os, random, sys, time
    sys.path.insert(0, {root!r})
    from tests.helpers.sessions import make_pool, make_router, population, rows_of
    from eccos_rs.errors import EccosError, StoreError
    from eccos_rs.routing.policy import Policy
    from eccos_rs.domain.query import Query
    from eccos_rs.session import Session

    ROWS = rows_of(population(64))
    STORE = {store!r}

    def only(model):
        return Query("?", models=(model,))

    async def main():
        {body}

    asyncio.run(main())
"""


def replica(store: str, body: str) -> subprocess.Popen[str]:
    code = textwrap.dedent(_SCRIPT).format(
        root=str(ROOT), store=store, body=textwrap.indent(textwrap.dedent(body), " " * 4).strip()
    )
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
