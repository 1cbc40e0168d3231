"""What clients and endpoints should not send: each is answered in a sentence, and nobody else suffers."""

from __future__ import annotations

import base64
import json
import struct

import anthropic
import httpx
import pytest

from tests.helpers.dialects import MESSAGES
from tests.helpers.scripted import COMPLETION, DONE, WORDS, data, plain, stream
from tests.serve.test_conversations import TURNS, model, turn
from tests.serve.test_dialects import endpoints
from tests.serve.test_endpoint_faults import ask, good, row, served, spent

DETAILS = "prompt_tokens_details"


def picture(number, side=1000):
    """The head of a PNG, which is what its size is read from."""
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", side, side, 8, 2, 0, 0, 0)
    return base64.b64encode(head + bytes([number]) * 64).decode()


def image(number):
    source = {"type": "base64", "media_type": "image/png", "data": picture(number)}
    return {"type": "image", "source": source}


@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini"])
def test_ten_images_of_a_messages_request(kind, closing):
    with endpoints(kind) as (front, there):
        client = closing(anthropic.Anthropic(base_url=front, api_key="none", max_retries=0))
        content = [{"type": "text", "text": "What is on these?"}, *map(image, range(10))]
        turns = [{"role": "user", "content": content}]
        counted = client.messages.count_tokens(model="eccos", messages=turns).input_tokens
        assert 10 * 1000 * 1000 / 750 <= counted <= 10 * 1400
        got = client.messages.with_raw_response.create(model="eccos", max_tokens=2000, messages=turns)
        # Counted before it is sent: input at one dollar a million.
        assert float(got.headers["x-eccos-cost"]) >= 10 * 1333 * 1 / 1e6
        sent = json.dumps(there.requests[-1])
        at = [sent.index(picture(number)) for number in range(10)]
        assert at == sorted(at), "the images came in another order"
        assert sent.count("iVBOR") == 10
        assert got.parse().content[0].text == "hello"


def test_images_go_to_no_model_that_sees_none():
    with served(good, large={"vision": True}) as (front, there):
        content = [{"type": "text", "text": "What?"}, *map(image, range(10))]
        body = {"model": "eccos", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
        got = httpx.post(f"{front}/v1/messages", json=body)
        assert got.headers["x-eccos-model"] == "large"
        assert [part["type"] for part in there.requests[0]["messages"][0]["content"]] == [
            "text", *["image_url"] * 10
        ]  # fmt: skip
    with served(good) as (front, there):
        got = httpx.post(f"{front}/v1/messages", json=body)
        assert (got.status_code, got.json()["type"]) == (422, "error")
        assert "vision" in got.json()["error"]["message"]
        assert not there.requests


def refusing(which, status=400):
    """Answer soundly but for the effort of some models."""

    def answer(body, path):
        if body["model"] in which and "reasoning_effort" in body:
            said = f"Unsupported value: 'reasoning_effort' does not support {body['reasoning_effort']!r}"
            return plain({"error": {"message": said, "param": "reasoning_effort"}}, status)
        return good(body, path)

    return answer


@pytest.mark.parametrize("status", [400, 422])
def test_an_effort_that_the_chosen_model_refuses_is_another_models(status):
    with served(refusing({"small"}, status)) as (front, there):
        for _ in range(5):
            assert ask(front, reasoning_effort="xhigh").headers["x-eccos-model"] == "large"
        assert not row(front, "small")["out"], "a request's own wish took a model out for everybody"
        assert ask(front).headers["x-eccos-model"] == "small"
        # By its name, its refusal is the client's to read.
        got = ask(front, model="small", reasoning_effort="xhigh")
        assert (got.status_code, got.json()["error"]["param"]) == (status, "reasoning_effort")
        assert spent(front) == pytest.approx((5 * (10 * 10 + 1000 * 40) + (10 + 4000)) / 1e6)
    with served(refusing({"small", "large"})) as (front, there):
        got = ask(front, reasoning_effort="xhigh")
        assert (got.status_code, got.json()["error"]["param"]) == (400, "reasoning_effort")
        assert "refuses the effort" in got.json()["error"]["message"]
        assert [body["model"] for body in there.requests] == ["small", "large"]


@pytest.mark.parametrize(
    ("cached", "held"),
    [
        (10**9, 10),
        (7.0, 7),
        ("7", 7),
        (7.9, 7),
        (-5, 0),
        (True, 0),
        (None, 0),
        ("many", 0),
        ([], 0),
        (1e400, 0),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_an_endpoint_that_lies_about_cached_tokens(cached, held, streaming):
    """No more is booked as cached than was sent, and never less than nothing."""
    usage = {"prompt_tokens": 10, "completion_tokens": 1000, DETAILS: {"cached_tokens": cached}}
    told = data({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": usage})
    whole = json.dumps({**COMPLETION, "usage": usage}).encode()

    def answer(body, _path):
        return stream(*WORDS, told, DONE) if body.get("stream") else plain(whole)

    with served(answer, small={"cached_input_price": 0.1}) as (front, _):
        got = ask(front, model="small", stream=streaming)
        assert got.status_code == 200
        assert spent(front) == pytest.approx(((10 - held) * 1 + held * 0.1 + 1000 * 4) / 1e6)


def test_two_conversations_under_one_id_at_once():
    """They share a model, as they share a name; each is answered, and others count on caches as before."""
    cached = {"prompt_tokens": 2000, "completion_tokens": 10, DETAILS: {"cached_tokens": 0}}

    def answer(_body, _path):
        return plain({**COMPLETION, "usage": cached})

    with served(answer, small={"cached_input_price": 0.1, "input_price": 1000.0}) as (front, _):
        for number in range(6):
            messages = [{"role": "system", "content": f"{number} is what you are. " * 100}, *TURNS[1:]]
            assert model(turn(front, session="shared", messages=messages, model="small"))[0] == "small"
        cached[DETAILS]["cached_tokens"] = 2000
        mine = [{"role": "system", "content": "You are somebody else. " * 100}, *TURNS[1:]]
        first = turn(front, messages=mine, model="small").headers["x-eccos-cost"]
        again = turn(front, messages=mine, model="small").headers["x-eccos-cost"]
        assert float(again) < 0.5 * float(first)


def test_a_client_that_forks_its_conversation():
    """Both branches are answered where the prefix lies, at what it saves."""
    usage = {"prompt_tokens": 10, "completion_tokens": 10, DETAILS: {"cached_tokens": 10}}
    answer = plain({**COMPLETION, "usage": usage})
    priced = {"cached_input_price": 0.001, "input_price": 1000.0, "output_price": 0.0}
    with served(lambda *_: answer, small=priced) as (front, _):
        start = [{"role": "system", "content": "Be brief. " * 300}, TURNS[1]]
        costs = []
        for branch in ("left", "right", "left", "right"):
            messages = [*start, TURNS[2], {"role": "user", "content": f"Go {branch}"}]
            got = turn(front, session="s", messages=messages, model="small")
            costs.append(float(got.headers["x-eccos-cost"]))
        # Eight tokens are expected: all new at first, then but for the fork's end, then all of them held.
        assert costs[0] == pytest.approx(0.008)
        assert costs[1] < 0.01 * costs[0]
        assert costs[2:] == pytest.approx([8 * 0.001 / 1e6] * 2, abs=5e-9)


def test_a_cache_lifetime_of_0_binds_nobody():
    with served(good, small={"cache_lifetime": 0.0}, large={"cache_lifetime": 0.0}) as (front, _):
        turn(front, floor=0.8, messages=TURNS[:2])
        assert model(turn(front)) == ("small", "chosen")


def test_a_thought_in_an_answer_of_messages_reaches_its_own_client(closing):
    thought = {"type": "thinking", "thinking": "hmm", "signature": "sig"}
    whole = json.loads(MESSAGES["hello"][0].pieces[0])
    with endpoints("anthropic") as (front, there):
        there.answer = lambda *_: plain({**whole, "content": [thought, *whole["content"]]})
        client = closing(anthropic.Anthropic(base_url=front, api_key="none", max_retries=0))
        got = client.messages.create(
            model="eccos", max_tokens=2000, messages=[{"role": "user", "content": "x"}]
        )
        assert got.content[0].signature == "sig"
