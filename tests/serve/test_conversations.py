"""A conversation stays with its model while the prompt cache may live there."""

from __future__ import annotations

import httpx
import pytest

from eccos_rs.serve.conversations import conversation_key
from tests.helpers.scripted import plain
from tests.serve.test_endpoint_faults import good, row, served

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And 3 + 3?"},
]


def turn(front, floor=None, session=None, **fields):
    headers = {} if floor is None else {"x-eccos-min-quality": str(floor)}
    headers |= {} if session is None else {"x-session-id": session}
    body = {"model": "eccos", "messages": TURNS, **fields}
    return httpx.post(f"{front}/v1/chat/completions", json=body, headers=headers)


def model(got):
    assert got.status_code == 200, got.text
    return got.headers["x-eccos-model"], got.headers["x-eccos-conversation"]


def test_the_next_turn_goes_to_the_last_turns_model():
    with served(good) as (front, _):
        assert model(turn(front, floor=0.8, messages=TURNS[:2])) == ("large", "chosen")
        assert model(turn(front)) == ("large", "kept")
        decided = httpx.post(f"{front}/v1/route", json={"messages": TURNS}).json()
        assert (decided["model"], decided["conversation"]) == ("large", "kept")
        assert "answered the last turn" in decided["reason"]
        # Another conversation is chosen for by itself.
        assert model(turn(front, messages=[{"role": "user", "content": "Other"}, *TURNS[2:]])) == (
            "small",
            "chosen",
        )


def test_a_first_turn_is_chosen_for_though_its_words_are_known():
    with served(good) as (front, _):
        turn(front, floor=0.8, messages=TURNS[:2])
        assert model(turn(front, messages=TURNS[:2])) == ("small", "chosen")


@pytest.mark.parametrize("named", [{"session": "s1"}, {"prompt_cache_key": "s1"}])
def test_a_conversation_can_be_named(named):
    with served(good) as (front, _):
        turn(front, floor=0.8, messages=TURNS[:2], **named)
        assert model(turn(front, messages=[{"role": "user", "content": "Anything"}], **named)) == (
            "large",
            "kept",
        )


def test_it_leaves_a_model_that_cannot_take_the_turn():
    with served(good) as (front, _):
        turn(front, messages=TURNS[:2])
        assert model(turn(front, floor=0.8)) == ("large", "moved")
        assert model(turn(front)) == ("large", "kept")


def test_it_leaves_a_model_that_is_out():
    dead = set()

    def answer(body, path):
        return plain({"error": {"message": "no"}}, 401) if body["model"] in dead else good(body, path)

    with served(answer) as (front, _):
        turn(front, messages=TURNS[:2])
        dead.add("small")
        assert model(turn(front)) == ("large", "moved")
        assert row(front, "small")["out"]
        assert model(turn(front)) == ("large", "kept")


def test_stickiness_can_be_turned_off():
    with served(good, stickiness=0.0) as (front, _):
        turn(front, floor=0.8, messages=TURNS[:2])
        assert model(turn(front)) == ("small", "chosen")


def test_what_the_cache_holds_is_weighed_where_its_price_is_known():
    """A long prefix holds a conversation where it is; a short one lets it move."""
    small, large = ({"cached_input_price": price, "tools": True} for price in (0.1, 1.0))
    with served(good, small=small, large=large) as (front, _):
        turn(front, floor=0.8, messages=TURNS[:2])
        assert model(turn(front)) == ("small", "moved")
        tool = [*TURNS[:2], {"role": "assistant", "content": None, "tool_calls": []}]
        tool.append({"role": "tool", "tool_call_id": "a", "content": "4"})
        assert model(turn(front, messages=tool, session="loop", floor=0.8))[0] == "large"
        got = turn(front, messages=tool, session="loop")
        assert model(got) == ("large", "kept"), "a model was changed in the middle of a tool loop"


def test_clients_do_not_meet_in_one_session_id():
    keys = {
        conversation_key({}, "s", "alice", ("", "")),
        conversation_key({}, "s", "bob", ("", "")),
        conversation_key({"prompt_cache_key": "t"}, None, "alice", ("", "")),
        conversation_key({}, None, "alice", ("s", "t")),
        conversation_key({"user": "u"}, None, "alice", ("s", "t")),
        conversation_key({}, None, "alice", ("st", "")),
    }
    assert len(keys) == 6
    assert conversation_key({"prompt_cache_key": 5}, None, "a", ("s", "t")) == conversation_key(
        {}, None, "a", ("s", "t")
    )
