"""What is promised: one goal, ranges, changes."""

from __future__ import annotations

import pickle

import pytest

from eccos_rs import Policy, PolicyError


def test_without_a_goal_it_is_relative_to_the_strongest_model():
    assert Policy().goal == ("relative_quality", 0.97)
    assert Policy(min_quality=0.0).goal == ("min_quality", 0.0)


def test_a_new_goal_takes_the_place_of_the_old_one():
    policy = Policy(min_quality=0.8, tolerance=0.01)
    changed = policy.replace(budget=0.5)
    assert changed.goal == ("budget", 0.5)
    assert changed.tolerance == 0.01
    assert policy.replace(query_floor=0.2).goal == ("min_quality", 0.8)
    assert Policy().replace(min_quality=0.5).relative_quality is None


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"min_quality": 0.5, "budget": 1}, "one goal; got min_quality and budget"),
        ({"min_quality": 1.2}, r"min_quality must lie in \[0, 1\], got 1.2"),
        ({"min_quality": float("nan")}, "got nan"),
        ({"min_quality": "0.5"}, "got '0.5'"),
        ({"relative_quality": -0.1}, r"relative_quality must lie in \[0, 1\]"),
        ({"budget": -1}, "budget must be a finite number of at least 0, got -1"),
        ({"budget": float("inf")}, "budget must be a finite number"),
        ({"quality_value": True}, "quality_value must be a finite number"),
        ({"query_floor": 2}, "query_floor"),
        ({"tolerance": -1e-9}, "tolerance"),
        ({"time_limit": 0}, "time_limit must be a positive"),
        ({"overload": "drop"}, "overload must be one of defer, raise; got 'drop'"),
        ({"unroutable": "skip"}, "unroutable must be one of"),
        ({"per": "week", "budget": 1}, "per must be one of hour, day, month"),
        ({"per": "day"}, "period of a budget, and no budget was given"),
        ({"confidence": 0.5}, "strictly between 0.5 and 1"),
        ({"confidence": 1.0}, "strictly between 0.5 and 1"),
        ({"confidence": 0.9, "quality_value": 1}, "confidence is for a promised min_quality"),
        ({"confidence": 0.9, "budget": 1, "per": "day"}, "of a single batch"),
        ({"capacity": 5}, "capacity must map names to numbers, got int"),
        ({"capacity": {"a": -1}}, "capacity of 'a' must be a number of at least 0, got -1"),
        ({"group_min_quality": {"a": 1.5}}, r"group_min_quality of 'a' must be a number in \[0, 1\]"),
        ({"wait": -1}, "wait"),
    ],
)
def test_what_contradicts_itself_or_leaves_its_range_is_refused(fields, sentence):
    with pytest.raises(PolicyError, match=sentence):
        Policy(**fields)


def test_a_misspelt_field_is_told_by_its_near_one():
    with pytest.raises(PolicyError, match="'min_qualty'; did you mean 'min_quality'"):
        Policy().replace(min_qualty=0.5)


def test_a_policy_is_a_value():
    policy = Policy(min_quality=0.5, capacity={"a": 3, "b": float("inf")})
    assert pickle.loads(pickle.dumps(policy)) == policy
    with pytest.raises(TypeError):
        policy.capacity["a"] = 4
