"""A session after a fork: the child is told, nobody hangs, and the parent keeps its slots."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from tests.helpers.paths import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SCRIPT = """
    import os, signal, sys, warnings, gc
    sys.path.insert(0, {root!r})
    warnings.simplefilter("ignore", DeprecationWarning)
    from tests.helpers.sessions import make_pool, make_router
    from eccos_rs.errors import EccosError
    from eccos_rs.session import SyncSession

    one_slot = {{name: {{"slots": 1}} for name in ("small", "mid", "large")}}
    session = SyncSession(make_router(make_pool(**one_slot)))
    held = session.acquire("1")
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            {body}
        except EccosError as error:
            print(error, flush=True)
            os._exit(7)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert session.stats().in_flight == 1, session.stats()
    held.release(output_tokens=1)
    assert session.stats().in_flight == 0
    session.acquire("2").release()
    session.close()
    print("status", status)
"""


def run(body):
    code = textwrap.dedent(SCRIPT).format(root=str(ROOT), body=body)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "call",
    [
        'session.acquire("3")',
        "session.stats()",
        "session.feedback(held.id, 1.0)",
        'session.down("mid")',
        'session.up("mid")',
        "held.release(output_tokens=3)",
        "import asyncio; asyncio.run(session.session.acquire('3'))",
    ],
)
def test_a_child_is_told_that_the_session_is_its_parents(call):
    said = run(call)
    assert "status 7" in said
    assert "belongs to process" in said


@pytest.mark.parametrize(
    "call", ["session.close()", "del held; gc.collect()", "session.__exit__(None, None, None)"]
)
def test_a_child_that_ends_leaves_the_session_to_its_parent(call):
    assert "status 0" in run(call)
