"""Keys of clients with their own limits, and what is read again while requests run."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from eccos_rs.errors import InputError
from eccos_rs.pools.pool import LLM, Endpoint, Pool
from eccos_rs.serve.keys import read_keys
from eccos_rs.serve.replay import ReplaySettings, build_replay_app
from tests.helpers.paths import ROOT
from tests.helpers.scripted import COMPLETION, Scripted, plain
from tests.helpers.serving import MODELS, TEXTS, chat, pool_at, recorded, running
from tests.serve.test_gateway import eventually, gateway
from tests.serve.test_gateway_faults import free_address

ALICE, BOB = "alice-token-0123456789", "bob-token-0123456789"
FILE = f"""
schema_version = 1

[[key]]
name = "alice"
token = "{ALICE}"
budget = 0.01
per = "day"
models = ["small"]
priority = [-5, 5]
tenant = "blue"

[[key]]
name = "bob"
token_sha256 = "{hashlib.sha256(BOB.encode()).hexdigest()}"
requests_per_minute = 3
"""


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text(FILE)
    return path


def ask(front, token, model="eccos", **headers):
    given = {
        "authorization": f"Bearer {token}",
        **{name.replace("_", "-"): str(value) for name, value in headers.items()},
    }
    return httpx.post(f"{front}/v1/chat/completions", json=chat("hi", model), headers=given, timeout=20)


@pytest.fixture
def served(keys):
    with running(Scripted(lambda *_: plain(COMPLETION)), lifespan="off") as url:
        endpoint = Endpoint(f"{url}/v1")
        pool = Pool(
            [
                LLM(name, price, 4 * price, endpoint=endpoint)
                for name, price in zip(MODELS, (1, 10), strict=True)
            ]
        )
        with gateway(pool, keys=keys, store=keys.with_name("eccos.db")) as front:
            yield front, pool


def code(got):
    return got.status_code, got.json()["error"]["code"]


def test_a_key_is_kept_within_its_limits(served, keys):
    front, _ = served
    assert ask(front, "nobody-0123456789").status_code == 401
    assert code(ask(front, ALICE, "large")) == (403, "model_not_allowed")
    assert code(ask(front, ALICE, x_eccos_min_quality=0.8)) == (422, "no_model")
    assert code(ask(front, ALICE, x_eccos_priority=6)) == (400, "invalid_header")
    assert ask(front, ALICE, x_eccos_priority=5).headers["x-eccos-model"] == "small"
    # $0.00401 an answer: the third begins with less than a cent spent, the fourth does not.
    assert [ask(front, ALICE).status_code for _ in range(3)] == [200, 200, 429]
    refused = ask(front, ALICE)
    assert code(refused) == (429, "insufficient_quota")
    assert int(refused.headers["retry-after"]) > 0
    assert [ask(front, BOB, "large").status_code for _ in range(4)] == [200, 200, 200, 429]
    bob = {"authorization": f"Bearer {BOB}"}
    metrics = httpx.get(f"{front}/metrics", headers=bob).text
    spent = next(line for line in metrics.splitlines() if 'spend_dollars_total{key="alice"}' in line)
    assert float(spent.rsplit(" ", 1)[1]) == pytest.approx(0.01203)
    assert 'eccos_key_budget_left_dollars{key="alice"} 0.0' in metrics
    assert ALICE not in metrics


def test_what_a_key_has_spent_outlives_the_process(keys):
    with running(Scripted(lambda *_: plain(COMPLETION)), lifespan="off") as url:
        endpoint = Endpoint(f"{url}/v1")
        pool = Pool([LLM(name, 1, 4, endpoint=endpoint) for name in MODELS])
        store = keys.with_name("eccos.db")
        with gateway(pool, keys=keys, store=store) as front:
            assert [ask(front, ALICE).status_code for _ in range(4)] == [200, 200, 200, 429]
        with gateway(pool, keys=keys, store=store) as front:
            assert code(ask(front, ALICE)) == (429, "insufficient_quota")
            assert ask(front, BOB).status_code == 200


def test_a_changed_file_is_read_and_a_broken_one_is_not(served, keys, caplog):
    front, _ = served
    assert ask(front, BOB, "large").status_code == 200
    carol = "carol-token-0123456789"
    keys.write_text(FILE + f'\n[[key]]\nname = "carol"\ntoken = "{carol}"\n')
    eventually(lambda: ask(front, carol).status_code == 200)
    keys.write_text("schema_version = 1\n[[key]]\n")
    eventually(lambda: "the keys stay as they are" in caplog.text)
    assert ask(front, carol).status_code == 200


BROKEN = [
    ("", "schema_version = 1"),
    ("schema_version = 1\nkey = 5", r"at least one \[\[key\]\] table"),
    ("schema_version = 1\n[[key]]\ntoken = 'x'", "key 0 needs a name"),
    ("schema_version = 1\n[[key]]\nname = 'a'\ntoken = 'short'", "at least 16 ASCII characters, got 5"),
    ("schema_version = 1\n[[key]]\nname = 'a'\ntoken_env = 'NOT_SET_AT_ALL'", "at least 16"),
    ("schema_version = 1\n[[key]]\nname = 'a'\ntoken_sha256 = 'xyz'", "64 hexadecimal digits"),
    (FILE + f"[[key]]\nname = 'alice'\ntoken = '{'z' * 20}'", "'alice' has a name that another has"),
    (FILE + f"[[key]]\nname = 'eve'\ntoken = '{BOB}'", "'eve' has a token that another has"),
    (FILE.replace("budget", "budgett"), "unknown member 'budgett'; did you mean 'budget'"),
    (FILE.replace("0.01", "-1"), "budget must be"),
    (FILE.replace('"day"', '"week"'), "per must be one of hour, day, month"),
    (FILE.replace('["small"]', '["smal"]'), "did you mean 'small'"),
    (FILE.replace("[-5, 5]", "[5, -5]"), "priority must rise"),
    (FILE.replace("[-5, 5]", f"[0, {2**63}]"), "priority must be an int in"),
    ("schema_version = ", "keys file"),
]


@pytest.mark.parametrize(("content", "sentence"), BROKEN)
def test_a_broken_keys_file_is_refused_by_name(tmp_path, content, sentence):
    path = tmp_path / "keys.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=sentence) as refused:
        read_keys(path, MODELS)
    assert ALICE not in str(refused.value)
    assert BOB not in str(refused.value)


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
settings = GatewaySettings(load=partial(reload_pool, router, path))
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


def answers(url):
    try:
        return httpx.get(url).status_code == 200
    except httpx.ConnectError:
        return False
