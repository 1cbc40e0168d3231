"""What is read again at SIGHUP while requests run: pool, policy, keys; by one process and by several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from eccos_rs.pools.pool import Pool
from eccos_rs.serve.replay import ReplaySettings, build_replay_app
from eccos_rs.serve.shadow.record import read_rows
from tests.helpers.paths import ROOT
from tests.helpers.serving import TEXTS, chat, pool_at, recorded, running
from tests.serve.test_gateway import FAST, eventually
from tests.serve.test_gateway_faults import free_address

PROCESS = """
import sys
from functools import partial
from pathlib import Path
sys.path.insert(0, {root!r})
from eccos_rs.routing.policy import Policy
from eccos_rs.pools.pool import Pool
from eccos_rs.routing.router import Router
from eccos_rs.serve.app import GatewaySettings, build_app, reload_pool
from eccos_rs.serve.run import run
from tests.helpers.serving import FixedPredictor
path = Path({pool!r})
router = Router(Pool.load(path), FixedPredictor(), Policy(min_quality=0.6))
keys = path.with_name("keys.toml")
settings = GatewaySettings(load=partial(reload_pool, router, path), keys=keys if keys.exists() else None)
run(build_app(router, settings), "127.0.0.1", {port}, quiet=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_sighup_changes_the_pool_and_drops_no_request(tmp_path):
    port = int(free_address().rsplit(":", 1)[1])
    path, url = tmp_path / "pool.toml", f"http://127.0.0.1:{port}"
    slow = ReplaySettings(tokens_per_second=20.0, ttft=0.0)
    with running(build_replay_app(recorded(60), slow)) as engine:
        pool = pool_at(engine)
        path.write_text(pool.to_toml())
        code = PROCESS.format(root=str(ROOT), pool=str(path), port=port)
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        try:
            eventually(lambda: answers(f"{url}/readyz"), seconds=40)
            got = []

            def stream():
                body = chat(TEXTS[0], "small", stream=True)
                with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=40) as answer:
                    got.append(answer.read().decode())

            thread = threading.Thread(target=stream)
            thread.start()
            eventually(lambda: httpx.get(f"{url}/v1/stats").json()["in_flight"] == 1)
            path.write_text("broken")
            os.kill(process.pid, signal.SIGHUP)
            time.sleep(1.0)
            assert len(httpx.get(f"{url}/v1/models").json()["data"]) == 3
            path.write_text(Pool([pool["large"]]).to_toml())
            os.kill(process.pid, signal.SIGHUP)
            eventually(lambda: len(httpx.get(f"{url}/v1/models").json()["data"]) == 2, seconds=20)
            assert httpx.post(f"{url}/v1/route", json=chat(TEXTS[1])).json()["model"] == "large"
            thread.join(40)
            assert got[0].rstrip().endswith("data: [DONE]")
        finally:
            process.terminate()
            _, said = process.communicate(timeout=40)
        assert "the pool stays as it is" in said


TOKEN = "some-token-0123456789"
GIVEN = {"authorization": f"Bearer {TOKEN}"}


def keys_for(*models):
    names = ", ".join(f'"{name}"' for name in models)
    return f'schema_version = 1\n[[key]]\nname = "a"\ntoken = "{TOKEN}"\nmodels = [{names}]\n'


def served_models(url):
    try:
        rows = httpx.get(f"{url}/v1/models", headers=GIVEN).json()["data"]
    except httpx.TransportError:
        return None
    return {row["id"] for row in rows} - {"eccos"}


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_keys_and_pool_change_in_one_go(tmp_path):
    """The keys of a reload are read for the pool of that reload, whichever way it changes."""
    port = int(free_address().rsplit(":", 1)[1])
    path, url = tmp_path / "pool.toml", f"http://127.0.0.1:{port}"
    keys = tmp_path / "keys.toml"
    with running(build_replay_app(recorded(), FAST)) as engine:
        pool = pool_at(engine)

        def write(models, allowed):
            keys.write_text(keys_for(*allowed))
            path.write_text(Pool([pool[name] for name in models]).to_toml())

        def chosen():
            got = httpx.post(f"{url}/v1/route", json=chat(TEXTS[1]), headers=GIVEN)
            return got.json()["model"] if got.status_code == 200 else got.status_code

        def reload(wanted):
            os.kill(process.pid, signal.SIGHUP)
            eventually(lambda: served_models(url) == wanted, seconds=20)

        write(["small"], ["small"])
        code = PROCESS.format(root=str(ROOT), pool=str(path), port=port)
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        try:
            eventually(lambda: served_models(url) == {"small"}, seconds=40)
            write(["large"], ["large"])
            reload({"large"})
            assert chosen() == "large"
            # Keys that name what the pool has no more: the old keys stay, and ask for nothing that is gone.
            write(["small", "large"], ["tiny"])
            reload({"small", "large"})
            body = chat(TEXTS[1])
            got = httpx.post(f"{url}/v1/chat/completions", json=body, headers=GIVEN, timeout=20)
            assert got.headers["x-eccos-model"] == "large"
            write(["small"], ["tiny"])
            reload({"small"})
            got = httpx.post(f"{url}/v1/chat/completions", json=body, headers=GIVEN, timeout=20)
            assert (got.status_code, got.json()["error"]["code"]) == (403, "model_not_allowed")
        finally:
            process.terminate()
            _, said = process.communicate(timeout=40)
    assert "the keys stay as they are" in said
    assert "there is no model 'tiny'" in said
    assert "Traceback" not in said


WORKERS = """
import sys
sys.path.insert(0, {root!r})
from functools import partial
from pathlib import Path
from eccos_rs.pools.pool import Pool
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.serve.app import GatewaySettings
from eccos_rs.serve.shadow.settings import ShadowSettings
from eccos_rs.serve.workers import load_app, run_workers, shared_between
from tests.helpers.serving import FixedPredictor

path = Path({pool!r})

def load():
    return Router(Pool.load(path), FixedPredictor(), Policy(min_quality=0.6))

if __name__ == "__main__":
    with shared_between(2, None) as store:
        settings = GatewaySettings(store=store, shadow=ShadowSettings("large", path.with_name("s.jsonl")))
        make = partial(load_app, load, settings, path)
        run_workers(make, "127.0.0.1", {port}, workers=2, grace=5.0)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_sighup_reaches_every_worker_and_shadowing_goes_on(tmp_path):
    port = int(free_address().rsplit(":", 1)[1])
    path, url = tmp_path / "pool.toml", f"http://127.0.0.1:{port}"
    script, log, told = tmp_path / "serving.py", tmp_path / "s.jsonl", tmp_path / "stderr"
    with running(build_replay_app(recorded(), FAST)) as engine:
        pool = pool_at(engine)
        path.write_text(pool.to_toml())
        script.write_text(WORKERS.format(root=str(ROOT), pool=str(path), port=port))
        with told.open("w") as errors:
            process = subprocess.Popen([sys.executable, str(script)], stderr=errors)

        def twice(words):
            eventually(lambda: told.read_text().count(words) == 2, seconds=60)

        def ask():
            got = httpx.post(f"{url}/v1/chat/completions", json=chat(TEXTS[1]), timeout=20)
            assert got.headers["x-eccos-model"] == "large"

        def prices():
            decided = [row for row in read_rows(log) if row["kind"] == "decision"]
            return [row["expected"]["as_is"]["usd"] for row in decided]

        try:
            twice("Application startup complete")
            ask()
            eventually(lambda: len(prices()) == 1)
            # A pool that lacks the model that requests go to is refused, by every worker.
            path.write_text(Pool([pool["small"]]).to_toml())
            os.kill(process.pid, signal.SIGHUP)
            twice("the pool stays as it is: there is no model 'large' in the pool")
            assert served_models(url) == {"small", "large"}
            path.write_text(pool.replace("large", input_price=50.0, output_price=150.0).to_toml())
            os.kill(process.pid, signal.SIGHUP)
            twice("reloaded; the pool holds small, large")
            for _ in range(8):  # new connections: either worker answers
                ask()
            eventually(lambda: len(prices()) == 9)
            assert process.poll() is None
            assert prices()[1:] == pytest.approx([10 * prices()[0]] * 8)
        finally:
            process.terminate()
            process.wait(40)


def answers(url):
    try:
        return httpx.get(url).status_code == 200
    except httpx.ConnectError:
        return False
