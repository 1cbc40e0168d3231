"""Keys of clients with their own limits; their file is read again while requests run."""

from __future__ import annotations

import hashlib
import time

import httpx
import pytest

from eccos_rs.errors import InputError
from eccos_rs.pools.pool import LLM, Endpoint, Pool
from eccos_rs.serve.keys import read_keys
from tests.helpers.scripted import COMPLETION, DONE, FINAL, WORDS, Scripted, data, plain, stream
from tests.helpers.serving import MODELS, chat, running
from tests.serve.test_gateway import eventually, gateway

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
        read_keys(path, Pool([LLM(name, 1, 4) for name in MODELS]))
    assert ALICE not in str(refused.value)
    assert BOB not in str(refused.value)


SLOW = stream(*WORDS[:1], 1.5, *WORDS[1:], data(FINAL), DONE)


def test_a_key_that_is_taken_away_while_its_request_runs(keys):
    """The answer comes to its end and is booked; the key's return gives it no second budget."""
    with running(Scripted(lambda *_: SLOW), lifespan="off") as url:
        pool = Pool([LLM(name, 1, 4, endpoint=Endpoint(f"{url}/v1")) for name in MODELS])
        file = FILE.replace("budget = 0.01", "budget = 0.004")
        keys.write_text(file)
        without = FILE[FILE.rindex("[[key]]") :]
        given = {"authorization": f"Bearer {ALICE}"}
        body = chat("hi", "small", stream=True)
        with gateway(pool, keys=keys) as front:
            with httpx.stream("POST", f"{front}/v1/chat/completions", json=body, headers=given) as got:
                lines = got.iter_lines()
                assert "one" in next(lines)
                keys.write_text(f"schema_version = 1\n{without}")
                eventually(lambda: ask(front, ALICE).status_code == 401)
                assert "data: [DONE]" in list(lines)
            keys.write_text(file)
            eventually(lambda: ask(front, ALICE).status_code != 401)
            assert code(ask(front, ALICE)) == (429, "insufficient_quota")


def test_other_limits_of_a_key_keep_what_it_used(served, keys):
    front, _ = served
    assert [ask(front, BOB).status_code for _ in range(3)] == [200, 200, 200]
    keys.write_text(FILE.replace("requests_per_minute = 3", "requests_per_minute = 5"))
    eventually(lambda: ask(front, BOB).status_code == 200)
    assert [ask(front, BOB).status_code for _ in range(2)] == [200, 429]
    assert [ask(front, ALICE).status_code for _ in range(4)] == [200, 200, 200, 429]
    keys.write_text(FILE.replace('per = "day"', 'per = "month"'))
    time.sleep(1.5)
    assert ask(front, ALICE).status_code == 429, "a longer period forgot what was spent in it"
    keys.write_text(FILE.replace('per = "day"', 'per = "hour"'))
    eventually(lambda: ask(front, ALICE).status_code == 200)


def test_a_tenant_that_changes_takes_its_conversation_to_nobody_else(served, keys):
    """It begins anew under the new tenant; another client with the same session id meets nothing of it."""
    front, _ = served
    turn = {"x_session_id": "s"}
    assert ask(front, BOB, **turn).headers["x-eccos-conversation"] == "chosen"
    assert ask(front, ALICE, **turn).headers["x-eccos-conversation"] == "chosen"
    assert ask(front, BOB, **turn).headers["x-eccos-conversation"] == "kept"
    keys.write_text(FILE.replace('"blue"', '"green"').replace("requests_per_minute = 3", 'tenant = "red"'))
    eventually(lambda: ask(front, BOB).status_code == 200 and ask(front, BOB).status_code == 200)
    assert ask(front, BOB, **turn).headers["x-eccos-conversation"] == "chosen"
    assert ask(front, BOB, **turn).headers["x-eccos-conversation"] == "kept"
