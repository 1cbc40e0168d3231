"""What a session counts of a conversation: caches by model and text, their life, forks, shared names."""

from __future__ import annotations

import math

import pytest

from eccos_rs import LLM, Policy, Pool, Query, Router, Session
from eccos_rs.dialects.usage import Usage, answer_cost
from eccos_rs.domain.llm import PriceStep
from eccos_rs.errors import InputError, QueryError
from eccos_rs.routing.prefix import Prefix
from eccos_rs.session.conversations import Conversations
from tests.helpers.serving import FixedPredictor

PRICED = {"cached_input_price": 0.1, "cache_lifetime": 300.0}
LONG = "All that was said before. " * 200


def shared(now, **fields):
    models = [LLM("small", 1.0, 4.0, **fields), LLM("large", 10.0, 40.0, **fields)]
    return Conversations(models, 300.0, most=2, clock=lambda: now[0])


def talk(*said, system="Be brief."):
    """A chat whose turns are alternately the user's and an answer."""
    roles = ("user", "assistant")
    turns = [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)]
    return Query(messages=({"role": "system", "content": system}, *turns), session="s")


def note(known, key, at, query=None, *, prompt=1000, cached=None):
    prefix = None if query is None else Prefix.of(query)
    known.note(
        key, at, price=0.01, forecasts=[0.6, 0.9], prompt=prompt, answer=100, cached=cached, prefix=prefix
    )


def costs(known, query=None, key="a", tokens=2000):
    turn = known.turn(query or Query("x"), key)
    return turn(input_tokens=tokens, output_tokens=[100.0, 100.0], quality=[0.6, 0.9])


COLD = [(2000 * 1 + 400) / 1e6, (2000 * 10 + 4000) / 1e6]
WARM = (1000 * 0.1 + 1000 * 10 + 4000) / 1e6


def test_a_cache_lives_for_a_while():
    now = [0.0]
    known = shared(now)
    note(known, "a", 1)
    now[0] = 300.0
    assert known.last("a") == "large"
    now[0] = 300.1
    assert known.last("a") is None
    for key in "bcd":
        note(known, key, 0)
    assert len(known) == 2
    assert known.last("b") is None
    now[0] += 4000.0
    note(known, "e", 0)
    assert len(known) == 1  # those that went silent have come to their end


def test_the_cost_of_a_turn_counts_what_a_cache_holds():
    now = [0.0]
    known = shared(now, **PRICED)
    assert costs(known)[0] == pytest.approx(COLD)
    note(known, "a", 1)
    assert costs(known)[0] == pytest.approx([COLD[0], WARM])
    now[0] = 301.0
    assert costs(known)[0] == pytest.approx(COLD)
    # An endpoint that says its cache held nothing is counted on less and less.
    now[0] = 302.0
    for _ in range(20):
        note(known, "a", 1, cached=0)
    assert costs(known)[0][1] == pytest.approx(COLD[1], rel=0.01)
    short = shared(now, **PRICED, cache_minimum=4096)
    note(short, "a", 1)
    assert costs(short)[0] == pytest.approx(COLD)  # below the provider's minimum nothing is cached


@pytest.mark.parametrize("lie", [10**12, 5000.5, 1e300])
def test_an_endpoint_that_lies_about_its_cache_is_believed_no_more_than_can_be(lie):
    known = shared([0.0], **PRICED)
    for _ in range(9):
        note(known, "a", 1, cached=lie)
    assert costs(known)[0] == pytest.approx([COLD[0], WARM])


def test_a_cache_that_does_not_live_holds_nothing():
    """Not even within the moment of its writing, and not in what is looked ahead to."""
    known = shared([5.0], cached_input_price=0.1, cache_lifetime=0.0)
    note(known, "a", 1)
    assert known.last("a") is None
    now, ahead = costs(known)
    assert now == pytest.approx(COLD)
    living = shared([5.0], cached_input_price=0.1)
    assert costs(living)[1][1] != pytest.approx(ahead[1])
    assert known.policy.shape.alive == living.policy.shape.alive
    note(known, "a", 1)
    assert known.policy.shape.alive == living.policy.shape.alive  # it tells nothing of caches that live


def test_a_long_prompt_has_the_prices_of_its_length():
    step = PriceStep(above=1_500, input_price=2.0, output_price=6.0, cached_input_price=0.2)
    known = shared([0.0], **PRICED, price_steps=[step])
    short = known.turn(Query("x"), "a")(input_tokens=1500, output_tokens=[100, 100], quality=[0.6, 0.9])[0]
    assert short[0] == pytest.approx((1500 * 1 + 100 * 4) / 1e6)
    assert costs(known)[0][0] == pytest.approx((2000 * 2 + 100 * 6) / 1e6)
    note(known, "a", 0)
    assert costs(known)[0][0] == pytest.approx((1000 * 0.2 + 1000 * 2 + 100 * 6) / 1e6)
    llm = LLM("m", 1.0, 4.0, **PRICED, price_steps=[step])
    assert answer_cost(llm, Usage(1500, 100, 500)) == pytest.approx((1000 + 500 * 0.1 + 400) / 1e6)
    assert answer_cost(llm, Usage(1501, 100, 500)) == pytest.approx((1001 * 2 + 500 * 0.2 + 600) / 1e6)


def test_a_move_has_its_price_ahead():
    known = shared([0.0], **PRICED)
    note(known, "a", 0)
    turn = known.turn(Query("x"), "a")
    _, ahead = turn(input_tokens=50_000, output_tokens=[100.0, 100.0], quality=[0.6, 0.61])
    assert min(ahead) == 0
    assert ahead[1] > ahead[0]  # at the dear model, later turns cost more


def held(known, query, tokens=2000):
    """Tokens of a prompt that the large model's cache is counted on for, by what the turn costs."""
    return (COLD[1] - costs(known, query, tokens=tokens)[0][1]) * 1e6 / 9.9


def test_a_fork_is_held_as_far_as_it_goes():
    known = shared([0.0], **PRICED)
    first, second = talk(LONG, "A", "Go on"), talk(LONG, "A", "Another way " * 100)
    note(known, "a", 1, first)
    assert held(known, first) == pytest.approx(1000)
    # Taken up again before its last turn, a prompt is cached up to there.
    assert 900 < held(known, second) < 1000
    assert held(known, talk("Wholly new")) < 10
    assert held(known, talk(LONG, "A", "Go on", system="Be long.")) < 10
    # Both branches go on, and both are held.
    note(known, "a", 1, second, prompt=1240)
    assert held(known, talk(LONG, "A", "Go on", "B", "More")) == pytest.approx(1000, rel=0.01)
    assert held(known, talk(LONG, "A", "Another way " * 100, "B", "More")) == pytest.approx(1240)


def test_two_conversations_of_one_name_spoil_nothing_for_others():
    """What is not there is not expected: an endpoint that says so is counted on for the rest as before."""
    known = shared([0.0], **PRICED)
    one, other = talk(LONG), talk("Something else. " * 300)
    for _ in range(10):
        note(known, "shared", 1, one, cached=0)
        note(known, "shared", 1, other, cached=0)
    for query in (one, other):
        note(known, "shared", 1, query, cached=1000)
    note(known, "a", 1, one)
    assert held(known, one) > 0


def test_a_forks_short_cache_is_no_sign_of_a_bad_one():
    known = shared([0.0], **PRICED)
    for number in range(10):
        note(known, "shared", 1, talk(f"{number} " * 3000), cached=0)
    note(known, "a", 1, talk(LONG))
    assert held(known, talk(LONG)) == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (Query("a" * 5000), Query("a" * 9000), 0.8),
        (Query("a" * 5000), Query("b" * 5000), 0.0),
        (Query(messages=({"role": "user", "content": "hi"},)),
         Query(messages=({"role": "user", "content": [{"type": "text", "text": "hi",
                                                       "cache_control": {"type": "ephemeral"}}]},)), 1.0),
        (Query(messages=({"role": "user", "content": "hi"},)),
         Query(messages=({"role": "assistant", "content": "hi"},)), 0.0),
        (Query("", extra_input_tokens=5), Query("more", extra_input_tokens=5), 1.0),
        (Query("a" * 5000), Query("a" * 5000, extra_input_tokens=5), 0.0),
    ],
)  # fmt: skip
def test_where_two_prompts_part(one, other, alike):
    assert Prefix.of(one).share_in(Prefix.of(other)) == pytest.approx(alike, abs=0.03)


def test_few_marks_are_kept_and_the_last_ones_first():
    chat = tuple({"role": "user", "content": f"{number:04}" * 25} for number in range(200))
    whole, kept = Prefix.of(Query(messages=chat)), Prefix.of(Query(messages=chat)).kept()
    assert kept.share_in(whole) == 1
    assert kept.share_in(Prefix.of(Query(messages=chat[:-1]))) > 0.99
    assert 0.4 < kept.share_in(Prefix.of(Query(messages=chat[:110]))) <= 0.55


def test_conversations_go_on_in_another_pool():
    now = [7.0]
    known = shared(now, **PRICED)
    note(known, "a", 1, talk(LONG))
    models = [LLM("new", 2, 2), LLM("large", 10.0, 40.0, **PRICED)]
    after = Conversations(models, 300.0, clock=lambda: now[0] + 50)
    after.follow(known)
    assert after.last("a") == "large"
    turn = after.turn(talk(LONG), "a")
    assert turn(input_tokens=2000, output_tokens=[100.0, 100.0], quality=[0.6, 0.9])[0][1] == pytest.approx(
        WARM
    )
    gone = Conversations(models[:1], 300.0, clock=lambda: now[0])
    gone.follow(known)
    assert gone.last("a") is None
    assert gone.turn(talk(LONG), "a").last is None


@pytest.mark.parametrize(
    ("before", "after"), [((0,), (0, 1)), ((0, 1), (0,)), ((0, 1), (1, 0)), ((0,), (1,)), ((0, 1), (2, 0, 1))]
)
def test_what_was_learned_of_the_models_follows_them_by_name(before, after):
    """A pool of another size: forecasts were kept by place, and the first turn failed."""
    now = [7.0]
    all_models = [LLM(name, 1.0, 4.0, **PRICED) for name in ("one", "two", "three")]
    quality = {"one": 0.2, "two": 0.6, "three": 0.9}

    def forecast(known, key):
        models = [all_models[at] for at in (before if known is old else after)]
        turn = known.turn(talk(LONG), key)
        return turn(
            input_tokens=2000, output_tokens=[100.0] * len(models), quality=[quality[m.name] for m in models]
        )

    old = Conversations([all_models[at] for at in before], 300.0, clock=lambda: now[0])
    for key in "abc":
        note(old, key, 0, talk(LONG))
        forecast(old, key)
    new = Conversations([all_models[at] for at in after], 300.0, clock=lambda: now[0])
    new.follow(old)
    for key in ("a", "new"):
        costs, added = forecast(new, key)
        assert len(costs) == len(added) == len(after)
        assert all(math.isfinite(each) for each in (*costs, *added))
    forecast(old, "a")  # which answers to its end beside the new one


def router(**fields):
    models = [
        LLM("small", 1.0, 4.0, tools=True, **{"cached_input_price": 0.1, **fields}),
        LLM("large", 10.0, 40.0, tools=True, **{"cached_input_price": 1.0, **fields}),
    ]
    return Router(Pool(models), FixedPredictor(), Policy(min_quality=0.6))


async def test_a_session_stays_and_counts_as_the_gateway_does():
    async with Session(router(cached_input_price=None)) as session:
        first = await session.acquire(Query("Hard?", session="s", min_quality=0.8))
        assert (first.model, first.conversation) == ("large", "chosen")
        first.release(output_tokens=10)
        again = await session.acquire(Query("Easy?", session="s"))
        assert (again.model, again.conversation) == ("large", "kept")
        again.release()
        # Another's conversation of the same name is not this one.
        other = await session.acquire(Query("Easy?", session="s", group="blue"))
        assert (other.model, other.conversation) == ("small", "chosen")
        other.release()
        plain = await session.acquire(Query("Easy?"))
        assert (plain.model, plain.turn) == ("small", None)
        plain.release()
        full = await session.acquire(Query("Easy?", session="s"), exclude=["large"])
        assert (full.model, full.conversation) == ("small", "moved")
        full.release(failed=True)
        kept = await session.acquire(Query("Easy?", session="s"))
        assert kept.model == "large", "an answer that never came moved the conversation"
        kept.release()


async def test_a_session_counts_the_cache_and_settles_by_it():
    async with Session(router()) as session:
        first = await session.acquire(talk(LONG), exclude=["small"])
        first.release(output_tokens=100, input_tokens=8, cached_tokens=0)
        assert session.stats().spend == pytest.approx((8 * 10 + 100 * 40) / 1e6)
        turn = talk(LONG, "An answer", "And then?")
        second = await session.acquire(turn, exclude=["small"])
        # FixedPredictor counts 8 tokens whatever is asked: all of them are held.
        assert second.cost == pytest.approx((8 * 1 + 24 * 40) / 1e6)
        second.release(output_tokens=50)
        more = (8 * 1 + 50 * 40) / 1e6
        assert session.stats().spend == pytest.approx((8 * 10 + 100 * 40) / 1e6 + more)


def test_how_a_model_counts_is_learned_from_what_it_states():
    """The cost of a turn is that of the provider's tokens; a lie is believed twice as much at most."""
    known = shared([0.0], **PRICED)
    for number in range(60):
        known.note(
            str(number), 0, price=0.0, forecasts=[0.6, 0.9], prompt=1300, answer=10, estimated=1000,
            prefix=Prefix.of(talk(f"{number} " * 50)),
        )  # fmt: skip
    small, large = costs(known, talk("Anew"), key="another")[0]
    assert small == pytest.approx((2000 * 1.3 + 400) / 1e6, rel=0.02)
    assert large == pytest.approx(COLD[1])
    for _ in range(60):
        known.note("lies", 0, price=0.0, forecasts=[0.6, 0.9], prompt=10**12, answer=10, estimated=1000)
    assert costs(known, talk("Anew"), key="another")[0][0] == pytest.approx((2000 * 2 + 400) / 1e6)


async def test_a_tool_loop_keeps_its_model_however_long_the_tool_takes():
    async with Session(router(cache_lifetime=0.01)) as session:
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        asked = (
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        )
        first = await session.acquire(Query(messages=asked[:1], session="s", min_quality=0.8))
        first.release()
        import asyncio

        await asyncio.sleep(0.05)
        loop = Query(messages=(*asked, {"role": "tool", "tool_call_id": "c", "content": "y"}), session="s")
        lease = await session.acquire(loop)
        assert (lease.model, lease.conversation) == ("large", "kept")
        lease.release()
        after = await session.acquire(Query(messages=(*asked[:1], *asked[:1]), session="s"))
        assert after.model == "small"
        after.release()


async def test_conversations_can_be_turned_off_and_are_checked():
    async with Session(router(cached_input_price=None), stickiness=0.0) as session:
        for floor, model in ((0.8, "large"), (None, "small")):
            lease = await session.acquire(Query("x", session="s", min_quality=floor))
            assert lease.model == model
            lease.release()
    with pytest.raises(InputError, match="stickiness"):
        Session(router(), stickiness=-1.0)
    with pytest.raises(QueryError, match="session must be a str"):
        Query("x", session=5)
    async with Session(router()) as session:
        lease = await session.acquire(Query("x", session="s"))
        with pytest.raises(InputError, match="cached_tokens"):
            lease.release(cached_tokens=-1)
        assert lease.released
