"""Changes as users write them, and what is said of those that are none."""

from __future__ import annotations

import pytest

from eccos_rs import LLM, Limit, Pool
from eccos_rs.errors import InputError, PoolError
from eccos_rs.whatif.wording import Wording, build_worlds, read_scenarios
from tests.whatif.given import today

POOL = Pool(
    [LLM("small", 1.0, 4.0, slots=5, tokens_per_minute=1e5), LLM("large", 2.0, 8.0, requests_per_minute=30)],
    [Limit("gpu", ["small", "large"], slots=8)],
)


def world(text):
    return build_worlds(today(POOL), [("", Wording().parse(text))])[1]


def test_every_kind_of_change():
    assert world("price small=0.5/2").pool["small"].input_price == 0.5
    assert world("price small=x3").pool["small"].output_price == 12.0
    assert world("slots small=+10").pool["small"].slots == 15
    assert world("slots small=2").pool["small"].slots == 2
    assert world("slots gpu=-3").pool.limits[0].slots == 5
    assert world("requests-per-minute large=60").pool["large"].requests_per_minute == 60
    assert world("tokens_per_minute small=+1e5").pool["small"].tokens_per_minute == 2e5
    assert world("outage large").pool.names == ("small",)
    assert world("add gpt-5-nano").pool.names == ("small", "large", "gpt-5-nano")
    assert world("commit large=500").committed == {"large": 500}
    assert world("batch 50%").batch_share == world("batch 0.5").batch_share == 0.5
    assert world("budget 12.5").goal == ("budget", 12.5)
    assert world("min-quality .8").goal == ("min_quality", 0.8)
    assert world("traffic 2").factor == 2.0
    both = world("slots small=+10; traffic 2")
    assert (both.name, both.factor, both.pool["small"].slots) == (
        "small: +10 slots, 2 x the traffic",
        2.0,
        15,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pirce small=x2", r"no change 'pirce'; did you mean 'price'"),
        ("price smal=x2", r"no model 'smal'.*did you mean 'small'"),
        ("price small=cheap", r"price of 'small' must be INPUT/OUTPUT.*got 'cheap'"),
        ("price small=-1/2", r"price of 'small' must be at least 0, got -1"),
        ("price small=1/nan", r"price of 'small' must be a number, got 'nan'"),
        ("price small", r"must be price MODEL=VALUE"),
        ("slots small=-9", r"slots of 'small' must be more than 0, got -4.*outage small"),
        ("slots small=0", r"must be more than 0, got 0"),
        ("slots small=+0.5", r"must be a whole number, got 5.5"),
        ("slots large=+2", r"'large' has no limit of slots that could change by \+2"),
        ("slots gpo=2", r"no model 'gpo'.*did you mean 'gpu'"),
        ("outage medium", r"no model 'medium'"),
        ("outage small; outage large", r"without 'large' no model is left"),
        ("add gpt5mega", r"knows no model 'gpt5mega'"),
        ("add small.toml", r"small\.toml"),
        ("add gpt-5-nano=none.jsonl", r"no file of labels 'none\.jsonl'"),
        ("add gpt-5-nano; add gpt-5-nano", r"in the pool twice"),
        ("commit large=-1", r"commitment to 'large' must be at least 0, got -1"),
        ("commit lrge=1", r"did you mean 'large'"),
        ("batch 150%", r"batch must be a share of the requests, 0 to 1, got 1.5"),
        ("budget -1", r"budget must be a finite number of at least 0.*got -1"),
        ("min_quality 2", r"min_quality must lie in \[0, 1\], got 2"),
        ("traffic 0", r"traffic must be a finite number greater than 0, got 0"),
        (" ; ", r"must say what changes"),
    ],
)
def test_what_is_no_change_is_named(text, said):
    with pytest.raises((InputError, PoolError), match=said):
        world(text)


FILE = """
schema_version = 1
[[scenario]]
name = "price war"
price = { small = "x0.5", large = [1, 4] }
traffic = 1.5
[[scenario]]
outage = ["large"]
slots = { small = "+3" }
[[scenario]]
add = "new.toml"
"""
NEW = """
schema_version = 1
[[model]]
name = "new"
input_price = 1.0
output_price = 2.0
scores = { mmlu_pro = 0.7 }
"""


def test_a_scenario_file(tmp_path):
    (tmp_path / "s.toml").write_text(FILE)
    (tmp_path / "new.toml").write_text(NEW)
    named, models = read_scenarios(tmp_path / "s.toml")
    _, war, without, new = build_worlds(today(POOL), named)
    assert war.name == "price war"
    assert [war.pool["small"].input_price, war.pool["large"].output_price, war.factor] == [0.5, 4.0, 1.5]
    assert (without.name, without.pool["small"].slots) == ("without large, small: +3 slots", 8)
    assert new.pool.names == ("small", "large", "new")
    assert models["new"][1] is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("traffic", "trafic", r"s\.toml: scenario price war:.*no change 'trafic'; did you mean 'traffic'"),
        ("[[scenario]]\nname", "[[scenarios]]\nname", r"no key 'scenarios'; did you mean 'scenario'"),
        ("schema_version = 1", "schema_version = 9", r"schema_version must be 1, got 9"),
        ('price = { small = "x0.5", large = [1, 4] }', "price = 3", r"price must be a table of models"),
        ('price = { small = "x0.5", large = [1, 4] }\ntraffic = 1.5', "", r"price war changes nothing"),
        ('["large"]', "3", r"outage must be a model or a list of models, got 3"),
        ('"price war"', "3", r"name of scenario 1 must be a text, got 3"),
        ("[[", "[[[", r"is not TOML"),
    ],
)  # fmt: skip
def test_a_slip_in_a_scenario_file_is_named(tmp_path, old, new, said):
    assert old in FILE
    (tmp_path / "s.toml").write_text(FILE.replace(old, new, 1))
    (tmp_path / "new.toml").write_text(NEW)
    with pytest.raises(InputError, match=said):
        read_scenarios(tmp_path / "s.toml")


def test_a_scenario_file_that_is_not_there_or_empty(tmp_path):
    with pytest.raises(InputError, match=r"no\.toml: No such file"):
        read_scenarios(tmp_path / "no.toml")
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(InputError, match=r"must hold \[\[scenario\]\] tables"):
        read_scenarios(tmp_path / "empty.toml")


def test_a_scenario_that_does_not_fit_the_pool_is_named():
    with pytest.raises(PoolError, match=r"scenario storm: there is no model 'larg'"):
        build_worlds(today(POOL), [("storm", Wording().parse("outage larg"))])
