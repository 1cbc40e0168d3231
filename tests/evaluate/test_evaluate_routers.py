"""Routers that were not trained on their models, judged: by published scores, and after labels."""

from __future__ import annotations

import random

import numpy as np
import pytest

from eccos_rs import Pool, Router
from eccos_rs.cli.main import main
from eccos_rs.errors import RecordError
from eccos_rs.evaluate import evidence_from_router
from eccos_rs.records import Output, Record, RecordTable

NAMES = ("gpt-4o", "gpt-4o-mini")
WORDS = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "owl", "pig")


def table(count=150, names=NAMES):
    draw = random.Random(3)
    rows = []
    for at in range(count):
        one, two, three = draw.sample(WORDS, 3)
        story = " ".join(draw.choice(WORDS) for _ in range(at % 37))
        text = (
            f"Case {at * 7919 % 1009}: does the {one} chase the {two}, or the {three} win {at} races? {story}"
        )
        outputs = tuple(
            Output(name, float(draw.random() < right), 40 + at % 9, price * (1 + at % 13))
            for name, right, price in zip(names, (0.9, 0.4), (1e-3, 1e-4), strict=True)
        )
        rows.append(Record(text, "animals", 20, outputs, str(at)))
    return RecordTable.from_records(rows)


@pytest.fixture(scope="module")
def router():
    return Router.day_one(Pool.of(*NAMES))


def test_scores_are_judged_and_what_labels_add(router):
    found = evidence_from_router(table(), router, data="animals")
    plain, given, learned = found.predictions.values()
    assert (plain.name, found.plain) == ("raw kNN16", "raw kNN16")
    assert (given.name, found.best) == ("as given", "as given")
    assert learned.name == f"with {len(found.fits[0])} labels"
    judged = found.test_set.table
    assert len(judged) + len(found.fits[0]) == 150
    assert not set(judged.query) & set(found.fits[0].query)
    truth = judged.quality.mean(axis=0)
    # Nothing published says how they fare here; thirty labels do.
    off = [np.abs(each.quality.mean(axis=0) - truth).max() for each in (given, learned)]
    assert off[1] < off[0]


def test_the_router_stays_as_it_was(router):
    before = router.knowledge()
    evidence_from_router(table(60), router, data="animals")
    assert router.knowledge() == before


def test_what_it_has_learned_is_not_judged(router):
    import pickle

    data = table(100)
    half = data.select(np.arange(50))
    learned = pickle.loads(pickle.dumps(router)).learn(half)
    found = evidence_from_router(data, learned, data="animals")
    assert not set(found.test_set.table.query) & set(half.query)
    assert "lie on top of what the router knows" in found.about["split"]
    with pytest.raises(RecordError, match="every query lies on top of one that the router has learned"):
        evidence_from_router(half, learned, data="animals")


def test_models_that_are_not_in_the_pool_are_named(router):
    with pytest.raises(RecordError, match=r"the data have one, two, the pool gpt-4o, gpt-4o-mini"):
        evidence_from_router(table(60, ("one", "two")), router, data="animals")


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def test_the_command_takes_a_pool_or_what_was_learned(tmp_path, capsys):
    from eccos_rs.records import write_records

    write_records(tmp_path / "data.jsonl", table(40).records())
    write_records(tmp_path / "other.jsonl", table(40, ("one", "two")).records())
    (tmp_path / "pool.toml").write_text(Pool.of(*NAMES).to_toml(), encoding="utf-8")
    assert run("evaluate", tmp_path / "other.jsonl", "--pool", tmp_path / "pool.toml") == 1
    assert "the data have one, two, the pool gpt-4o, gpt-4o-mini" in capsys.readouterr().err
    learned = tmp_path / "learned"
    line = ("learn", tmp_path / "data.jsonl", "--pool", tmp_path / "pool.toml", "--out", learned)
    assert run(*line) == 0
    assert run("evaluate", tmp_path / "data.jsonl", "--bundle", learned) == 1
    assert "every query lies on top of one that the router has learned" in capsys.readouterr().err
