"""Malformed input of every kind raises, with a sentence that says what was got and what was wanted."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest

from eccos_rs import PooledCapacity, SideRow, assign
from eccos_rs.errors import EccosError, ProblemError
from eccos_rs.solver import _numbers

COST = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
QUALITY = np.array([[0.5, 0.6, 0.7], [0.5, 0.6, 0.7]])
NAN, INF = np.nan, np.inf


def put(array: np.ndarray, value: float, *place: int) -> np.ndarray:
    changed = array.copy()
    changed[place] = value
    return changed


CASES: dict[str, tuple[dict[str, Any], str]] = {
    # the goal
    "no goal": (
        {"min_quality": None},
        "got none, wanted exactly one of min_quality, budget and quality_value",
    ),
    "two goals": ({"budget": 1.0}, "got min_quality and budget, wanted exactly one"),
    "three goals": ({"budget": 1.0, "quality_value": 1.0}, "got min_quality and budget and quality_value"),
    "floor above 1": ({"min_quality": 1.5}, "min_quality is 1.5, wanted a number in [0, 1]"),
    "floor below 0": ({"min_quality": -0.1}, "min_quality is -0.1, wanted a number in [0, 1]"),
    "floor NaN": ({"min_quality": NAN}, "min_quality is NaN, wanted a number in [0, 1]"),
    "floor text": ({"min_quality": "high"}, "min_quality is 'high', wanted a number"),
    "budget negative": ({"min_quality": None, "budget": -1.0}, "budget is -1, wanted a number >= 0"),
    "budget NaN": ({"min_quality": None, "budget": NAN}, "budget is NaN, wanted a number >= 0"),
    "value infinite": ({"min_quality": None, "quality_value": INF}, "quality_value is inf, wanted a finite"),
    "value negative": ({"min_quality": None, "quality_value": -1}, "quality_value is -1, wanted a finite"),
    # cost
    "cost flat": ({"cost": COST[0]}, "cost has shape (3,), wanted two dimensions (queries x models)"),
    "cost deep": ({"cost": COST[None]}, "cost has shape (1, 2, 3), wanted two dimensions"),
    "cost ragged": ({"cost": [[1.0], [1.0, 2.0]]}, "cost is no array"),
    "cost text": ({"cost": [["a", "b", "c"]] * 2}, "cost has dtype <U1, wanted real numbers"),
    "cost complex": ({"cost": COST + 1j}, "cost has dtype complex128, wanted real numbers"),
    "cost objects": ({"cost": COST.astype(object)}, "cost has dtype object, wanted real numbers"),
    "cost None": ({"cost": None}, "cost has dtype object, wanted real numbers"),
    "cost dates": ({"cost": COST.astype("datetime64[s]")}, "cost has dtype datetime64[s], wanted real"),
    "cost masked": ({"cost": np.ma.masked_array(COST)}, "cost is a masked array"),
    "cost negative": ({"cost": put(COST, -1.0, 1, 2)}, "cost[1, 2] is -1, wanted a finite number >= 0"),
    "cost NaN": ({"cost": put(COST, NAN, 0, 1)}, "cost[0, 1] is NaN, wanted a finite number >= 0"),
    "cost infinite": ({"cost": put(COST, INF, 0, 1)}, "cost[0, 1] is inf, wanted a finite number >= 0"),
    "no models": ({"cost": COST[:, :0], "quality": QUALITY[:, :0]}, "the pool has 0 models, wanted 1 to 256"),
    "257 models": (
        {"cost": np.ones((2, 257)), "quality": np.ones((2, 257))},
        "the pool has 257 models, wanted 1 to 256",
    ),
    # quality
    "quality shape": ({"quality": QUALITY.T}, "quality has shape (3, 2), wanted (2, 3) as cost"),
    "quality above 1": ({"quality": put(QUALITY, 1.1, 1, 0)}, "quality[1, 0] is 1.1, wanted a probability"),
    "quality below 0": (
        {"quality": put(QUALITY, -1e-9, 1, 0)},
        "quality[1, 0] is -0.000000001, wanted a prob",
    ),
    "quality NaN": ({"quality": put(QUALITY, NAN, 1, 0)}, "quality[1, 0] is NaN, wanted a probability"),
    "quality percent": ({"quality": QUALITY * 100}, "quality[0, 0] is 50, wanted a probability in [0, 1]"),
    # capacities and loads
    "capacity count": ({"capacity": [1.0, 2.0]}, "capacity has shape (2,), wanted (3,) (one per model)"),
    "capacity scalar": ({"capacity": 5}, "capacity has shape (), wanted (3,) (one per model)"),
    "capacity None": ({"capacity": [1, None, 2]}, "capacity has dtype object, wanted real numbers, infinity"),
    "capacity negative": ({"capacity": [1, -1, 2]}, "capacity[0, 1] is -1, wanted a number >= 0, infinity"),
    "capacity NaN": ({"capacity": [1, NAN, 2]}, "capacity[0, 1] is NaN, wanted a number >= 0, infinity"),
    "load shape": ({"load": np.ones((3, 2))}, "load has shape (3, 2), wanted (2, 3) (queries x models)"),
    "load flat": ({"load": np.ones(2)}, "load has shape (2,), wanted (2, 3) (queries x models) or (R, 2, 3)"),
    "load empty": ({"load": np.ones((0, 2, 3))}, "load has shape (0, 2, 3)"),
    "load negative": ({"load": put(COST, -1.0, 1, 1)}, "load[0, 1, 1] is -1, wanted a finite number >= 0"),
    "load NaN": ({"load": put(COST, NAN, 1, 1)}, "load[0, 1, 1] is NaN, wanted a finite number >= 0"),
    "load and capacity": (
        {"load": np.ones((2, 2, 3)), "capacity": [1.0, 1.0, 1.0]},
        "capacity has shape (3,), wanted (2, 3) (resources x models, as load)",
    ),
    # who may, floors, priorities
    "mask shape": ({"allowed": np.ones((3, 2), bool)}, "allowed has shape (3, 2), wanted (2, 3)"),
    "mask numbers": ({"allowed": np.ones((2, 3))}, "allowed has dtype float64, wanted booleans"),
    "mask bytes": (
        {"allowed": np.full((2, 3), 2, np.uint8).view(bool)},
        "allowed holds a byte other than 0 and 1, wanted booleans",
    ),
    "nobody may": (
        {"allowed": [[True] * 3, [False] * 3]},
        "query 1: allowed has no model for it, wanted at least one",
    ),
    "floor shape": ({"query_floor": [0.1, 0.2, 0.3]}, "query_floor has shape (3,), wanted (2,)"),
    "floor range": ({"query_floor": [0.1, 1.2]}, "query_floor[1] is 1.2, wanted a number in [0, 1]"),
    "floor too high": (
        {"query_floor": [0.1, 0.9]},
        "query 1: query_floor is 0.9, but its best allowed model has quality 0.7",
    ),
    "priority shape": ({"priority": [1]}, "priority has shape (1,), wanted (2,) (one per query)"),
    "priority fractions": ({"priority": [0.5, 1.0]}, "priority has dtype float64, wanted whole numbers"),
    "priority huge": (
        {"priority": np.array([1, 2**64 - 1], np.uint64)},
        "priority[1] is 18446744073709551615, wanted -9223372036854775808 to",
    ),
    # groups
    "group alone": ({"group": [0, 0]}, "group was given without group_min_quality or group_budget"),
    "limits alone": ({"group_min_quality": [0.1]}, "group_min_quality was given without group, wanted both"),
    "group shape": (
        {"group": [0], "group_budget": [1.0]},
        "group has shape (1,), wanted (2,) (one per query)",
    ),
    "group negative": ({"group": [0, -1], "group_budget": [1.0]}, "group[1] is -1, wanted 0 to 4294967295"),
    "group beyond": (
        {"group": [0, 1], "group_budget": [1.0]},
        "group[1] is 1, wanted a group below the number",
    ),
    "group counts": (
        {"group": [0, 0], "group_budget": [1.0], "group_min_quality": [0.1, 0.1]},
        "group_budget has 1 entries, wanted 2 (one per group, as group_min_quality)",
    ),
    "group floor": ({"group": [0, 0], "group_min_quality": [1.1]}, "group_min_quality[0] is 1.1, wanted a"),
    "group budget": ({"group": [0, 0], "group_budget": [-1]}, "group_budget[0] is -1, wanted a number >= 0"),
    "group limits deep": (
        {"group": [0, 0], "group_budget": [[1]]},
        "group_budget has shape (1, 1), wanted one",
    ),
    "5,000 limits": (
        {"group": [0, 0], "group_budget": np.ones(5000)},
        "capacity, pools, rows, group_min_quality and group_budget hold 5000 finite limits, wanted at most",
    ),
    # pools
    "pools of numbers": ({"pools": 3}, "pools is a int, wanted a list of PooledCapacity"),
    "one pool": ({"pools": PooledCapacity([0], 1)}, "pools is a PooledCapacity, wanted a list of"),
    "pool of numbers": ({"pools": [3]}, "pools[0] is a int, wanted a PooledCapacity"),
    "pool of another model": (
        {"pools": [PooledCapacity([0, 3], 1)]},
        "pools[0].models holds 3, wanted models 0 to 2",
    ),
    "pool of model -1": ({"pools": [PooledCapacity([-1], 1)]}, "pools[0].models holds -1, wanted models 0"),
    "pool of names": (
        {"pools": [PooledCapacity(["a"], 1)]},
        "pools[0].models has dtype <U1 and shape (1,), wanted",
    ),
    "pool of one number": ({"pools": [PooledCapacity(0, 1)]}, "pools[0].models is a int, wanted indices"),
    "pool of a short mask": (
        {"pools": [PooledCapacity([True, False], 1)]},
        "pools[0].models is a mask of shape (2,), wanted (3,)",
    ),
    "empty pool": ({"pools": [PooledCapacity([], 1)]}, "pools[0].models is empty, wanted at least one model"),
    "pool below 0": (
        {"pools": [PooledCapacity([0], 9), PooledCapacity([0], -1)]},
        "pools[1].capacity is -1, wanted a number >= 0, infinity for none",
    ),
    "pool of NaN": ({"pools": [PooledCapacity([0], NAN)]}, "pools[0].capacity is NaN, wanted a number >= 0"),
    "pool of text": ({"pools": [PooledCapacity([0], "x")]}, "pools[0].capacity is 'x', wanted a number"),
    "pool of another resource": (
        {"pools": [PooledCapacity([0], 1, resource=1)]},
        "pools[0].resource is 1, wanted a resource of load: 0 to 0",
    ),
    "pool without a name": ({"pools": [PooledCapacity([0], 1, name=3)]}, "pools[0].name is 3, wanted a text"),
    # side rows
    "rows of numbers": ({"rows": 3}, "rows is a int, wanted a list of SideRow"),
    "one row": ({"rows": SideRow(COST, at_most=1)}, "rows is a SideRow, wanted a list of SideRow"),
    "row of numbers": ({"rows": [3]}, "rows[0] is a int, wanted a SideRow"),
    "row without a limit": ({"rows": [SideRow(COST)]}, "rows[0] has none, wanted exactly one of at_most and"),
    "row with two": (
        {"rows": [SideRow(COST, at_most=1, at_least=0)]},
        "rows[0] has at_most and at_least, wanted exactly one of at_most and at_least",
    ),
    "row flat": (
        {"rows": [SideRow([1.0, 2.0], at_most=1)]},
        "rows[0].values has shape (2,), wanted (2, 3) (queries x models, as cost)",
    ),
    "row of text": ({"rows": [SideRow([["x"]], at_most=1)]}, "rows[0].values has dtype <U1, wanted real"),
    "row of NaN": (
        {"rows": [SideRow(COST, at_most=1), SideRow(put(COST, NAN, 1, 2), at_least=1)]},
        "rows[1].values[1, 2] is NaN, wanted a finite number (within 3.4e38)",
    ),
    "row up to NaN": (
        {"rows": [SideRow(COST, at_most=NAN)]},
        "rows[0].at_most is NaN, wanted a finite",
    ),
    "row of at least inf": (
        {"rows": [SideRow(COST, at_least=INF)]},
        "rows[0].at_least is inf, wanted a",
    ),
    "row up to text": ({"rows": [SideRow(COST, at_most="x")]}, "rows[0].at_most is 'x', wanted a number"),
    "row of a mean of 3": ({"rows": [SideRow(COST, at_most=1, mean=3)]}, "rows[0].mean is 3, wanted true or"),
    "row of indices": (
        {"rows": [SideRow(COST, at_most=1, members=[0, 1])]},
        "rows[0].members has dtype int64, wanted booleans",
    ),
    "row of one member": (
        {"rows": [SideRow(COST, at_most=1, members=[True])]},
        "rows[0].members has shape (1,), wanted (2,) (one per query)",
    ),
    "row without a name": ({"rows": [SideRow(COST, at_most=1, name=3)]}, "rows[0].name is 3, wanted a text"),
    # effort
    "overload": ({"overload": "drop"}, "overload is 'drop', wanted 'defer' or 'raise'"),
    "unroutable": ({"unroutable": "drop"}, "unroutable is 'drop', wanted 'raise' or 'defer'"),
    "tolerance": ({"tolerance": -1e-4}, "tolerance is -0.0001, wanted a finite number >= 0"),
    "tolerance NaN": ({"tolerance": NAN}, "tolerance is nan, wanted a finite number >= 0"),
    "time": ({"time_limit": -1}, "time_limit is -1.0, wanted seconds >= 0"),
    "time NaN": ({"time_limit": NAN}, "time_limit is nan, wanted seconds >= 0"),
    "nodes": ({"node_limit": 1.5}, "node_limit is 1.5, wanted a whole number >= 0"),
    "threads": ({"threads": 0}, "threads is 0, wanted a whole number >= 1"),
    "threads bool": ({"threads": True}, "threads is True, wanted a whole number >= 1"),
    "warm start": ({"warm_start": 3}, "warm_start is a int, wanted an Assignment"),
}


@pytest.mark.parametrize("name", CASES)
def test_malformed(name: str) -> None:
    change, sentence = CASES[name]
    arguments = {"cost": COST, "quality": QUALITY, "min_quality": 0.55} | change
    with pytest.raises(ProblemError, match=re.escape(sentence)) as caught:
        assign(**arguments)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, EccosError)


@pytest.mark.parametrize("nothing", [NAN, INF, -INF, -1.0])
def test_a_forbidden_pair_may_hold_anything(nothing: float) -> None:
    allowed = np.array([[True, False, True], [True, True, True]])
    found = assign(
        put(COST, nothing, 0, 1),
        put(QUALITY, nothing, 0, 1),
        load=put(COST, nothing, 0, 1),
        capacity=[9.0, 9.0, 9.0],
        allowed=allowed,
        min_quality=0.6,
    )
    plain = assign(COST, QUALITY, load=COST, capacity=[9.0, 9.0, 9.0], allowed=allowed, min_quality=0.6)
    assert found.model.tobytes() == plain.model.tobytes()
    assert (found.cost, found.bound) == (plain.cost, plain.bound)


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.float16, np.longdouble, np.int8, np.uint64, bool]
)
def test_dtypes(dtype: type) -> None:
    cost = np.array([[0, 1], [0, 1]], dtype)
    quality = np.array([[0, 1], [1, 0]], dtype)
    found = assign(cost, quality, min_quality=1.0)
    assert found.model.tolist() == [1, 0]
    assert found.cost == 1.0


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1][::-1],
        lambda a: a.astype(">f8"),
        lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(np.float64).reshape(a.shape),
        lambda a: a.tolist(),
        lambda a: [tuple(row) for row in a],
    ],
    ids=["fortran", "strided", "reversed", "big-endian", "unaligned", "lists", "tuples"],
)
def test_layouts(layout: Any) -> None:
    plain = assign(COST, QUALITY, min_quality=0.6, alternatives=True)
    found = assign(layout(COST), layout(QUALITY), min_quality=0.6, alternatives=True)
    assert found.model.tobytes() == plain.model.tobytes()
    assert found.bound == plain.bound


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pickled_arrays_are_not_copied(dtype: type) -> None:
    """Unpickled, an array has a dtype object of its own that only equals the usual one."""
    array = pickle.loads(pickle.dumps(QUALITY.astype(dtype)))
    assert _numbers.real("quality", array) is array


def test_mixed_precision() -> None:
    """Cost, quality and loads may differ in precision, also where they are screened."""
    n, m = 5000, 5
    made = np.random.default_rng(3)
    cost = made.uniform(0.1, 1.0, (n, m)).astype(np.float32)
    quality = made.uniform(0.0, 1.0, (n, m)).astype(np.float32)
    load = made.integers(1, 50, (n, m)).astype(np.float32)
    limits = {"min_quality": 0.7, "capacity": np.full(m, 1.3 * 25 * n / m)}
    same = assign(cost, quality, load=load, **limits)
    for mixed in ((cost, quality.astype(float), load), (cost.astype(float), quality, load.astype(float))):
        assert (assign(mixed[0], mixed[1], load=mixed[2], **limits).model == same.model).all()


def test_the_input_is_not_changed_and_may_be_read_only() -> None:
    cost, quality, capacity = COST.copy(), QUALITY.copy(), np.array([1.0, 1.0, INF])
    for array in (cost, quality, capacity):
        array.setflags(write=False)
    assign(cost, quality, capacity=capacity, min_quality=0.6)
    np.testing.assert_array_equal(cost, COST)
    np.testing.assert_array_equal(quality, QUALITY)


def test_one_array_as_cost_and_quality() -> None:
    both = np.array([[0.1, 0.9], [0.5, 0.6]])
    assert assign(both, both, min_quality=0.69, tolerance=0.0).model.tolist() == [1, 0]
    assert assign(both, both, min_quality=0.75).model.tolist() == [1, 1]


def test_pickled_arrays_are_taken_as_they_are() -> None:
    """An array that was pickled has a dtype object of its own."""
    cost, quality = np.ones((3, 2)), np.full((3, 2), 0.5)
    arrays = {
        "cost": cost,
        "quality": quality,
        "allowed": np.ones((3, 2), bool),
        "capacity": np.array([3.0, 3.0]),
        "query_floor": np.full(3, 0.1),
        "priority": np.arange(3),
        "group": np.zeros(3, dtype=np.uint32),
        "group_min_quality": np.array([0.2]),
    }
    again = {name: pickle.loads(pickle.dumps(array)) for name, array in arrays.items()}
    assert assign(**again, min_quality=0.4).cost == assign(**arrays, min_quality=0.4).cost == 3.0


@pytest.mark.parametrize("name", ["cost", "quality", "allowed", "capacity", "query_floor", "group"])
def test_what_cannot_become_an_array_is_named(name: str) -> None:
    class Tensor:
        def __array__(self, *_: object, **__: object) -> object:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    arrays = {"cost": np.ones((3, 2)), "quality": np.full((3, 2), 0.5), name: Tensor()}
    with pytest.raises(ProblemError, match=rf"{name} is no array: Can't call numpy"):
        assign(**arrays, min_quality=0.4)


def test_a_tensor_that_requires_grad_is_named() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ProblemError, match="quality is no array: Can't call numpy"):
        assign(np.ones((3, 2)), torch.full((3, 2), 0.5, requires_grad=True), min_quality=0.4)
