"""Kinds of limits that come to a side row: those that ship, and one of a caller's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from eccos_rs import ModelShare, ProblemError, SideRow, Status, assign, certify
from tests.helpers import problems
from tests.helpers.judging import MET

if TYPE_CHECKING:
    from eccos_rs.solver.limits import ProblemFigures


def asked(**more: Any) -> tuple[Any, dict[str, Any]]:
    made = problems.make(200, 5, seed=3)
    return made, {"capacity": made.capacity, "min_quality": made.min_quality, **more}


def test_a_share_is_kept_and_costs_something() -> None:
    made, limits = asked()
    free = assign(made.cost, made.quality, **limits)
    most = int(np.bincount(free.model, minlength=5).argmax())
    share = 0.7 * float(np.mean(free.model == most))
    limits["rows"] = [ModelShare([most], at_most=share, name="trial")]
    kept = assign(made.cost, made.quality, **limits)
    assert kept.status in MET
    assert np.mean(kept.model == most) <= share + 1e-9
    assert kept.cost > free.cost
    assert kept.row_price[0] > 0
    assert not certify(made.cost, made.quality, kept, **limits).failed


def test_a_share_is_the_side_row_of_ones_and_zeros() -> None:
    made, limits = asked()
    members = np.arange(200) % 3 == 0
    ones = np.zeros((200, 5))
    ones[:, [1, 4]] = 1.0
    row = SideRow(ones, at_least=0.5, mean=True, members=members)
    share = ModelShare([False, True, False, False, True], at_least=0.5, members=members)
    by_hand = assign(made.cost, made.quality, rows=[row], **limits)
    by_kind = assign(made.cost, made.quality, rows=[share], **limits)
    assert by_kind.model.tobytes() == by_hand.model.tobytes()
    assert np.isin(by_kind.model[members], [1, 4]).mean() >= 0.5


def test_a_share_out_of_reach_is_explained_by_its_name() -> None:
    share = ModelShare([0], at_least=0.9, name="home region")
    found = assign(np.ones((10, 2)), np.full((10, 2), 0.8), min_quality=0.5, capacity=[2, 10], rows=[share])
    assert found.status == Status.ROW_UNREACHABLE
    assert found.explanation is not None
    assert "home region" in found.explanation


@dataclass
class TokensAtOneModel:
    """A kind of a caller's own: it reads the problem's loads."""

    model: int
    at_most: float

    def side_row(self, at: str, figures: ProblemFigures) -> SideRow:
        assert at == "rows[1]"
        assert figures.load is not None
        values = np.zeros_like(figures.load)
        values[:, self.model] = figures.load[:, self.model]
        return SideRow(values, at_most=self.at_most)


def test_a_kind_of_ones_own_reads_the_problem() -> None:
    made, limits = asked()
    del limits["capacity"]
    load = np.random.default_rng(1).uniform(10, 100, (200, 5))
    limits |= {"load": load, "rows": [ModelShare([0], at_most=1.0), TokensAtOneModel(2, 500.0)]}
    found = assign(made.cost, made.quality, **limits)
    assert found.status in MET
    assert load[found.model == 2, 2].sum() <= 500 + 1e-6


@pytest.mark.parametrize(
    ("share", "sentence"),
    [
        (ModelShare([0], at_most=1.2), r"rows\[0\].at_most is 1.2, wanted a share: a number from 0 to 1"),
        (ModelShare([0], at_least="half"), r"rows\[0\].at_least is 'half', wanted a share"),
        (ModelShare([0], at_most=float("nan")), r"rows\[0\].at_most is nan, wanted a share"),
        (ModelShare([0]), r"rows\[0\] has none, wanted exactly one of at_most and at_least"),
        (ModelShare([0], 0.1, 0.2), r"rows\[0\] has at_most and at_least, wanted exactly one"),
        (ModelShare([7], at_most=0.5), r"rows\[0\].models holds 7, wanted models 0 to 1"),
        (ModelShare([0], at_most=0.5, members=[True]), r"rows\[0\].members has shape \(1,\)"),
    ],
)
def test_a_malformed_share_is_refused(share: ModelShare, sentence: str) -> None:
    with pytest.raises(ProblemError, match=sentence):
        assign(np.ones((3, 2)), np.full((3, 2), 0.8), min_quality=0.5, rows=[share])
