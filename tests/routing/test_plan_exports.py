"""A plan in other libraries' tables, as a picture, in a notebook."""

from __future__ import annotations

import sys
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from eccos_rs.errors import MissingExtraError
from tests.helpers.given import texts, trio


@pytest.fixture(scope="module")
def plan():
    return trio().route(texts(60), min_quality=0.7)


@pytest.fixture(scope="module")
def overloaded():
    return trio().route(texts(10), min_quality=0.5, capacity={"small": 3, "middle": 3, "large": 1})


@pytest.mark.parametrize("make", ["to_arrow", "to_polars"])
def test_tables_hold_the_rows(make, plan, overloaded):
    for some in (plan, overloaded, trio().route([])):
        table = getattr(some, make)()
        rows = table.to_pylist() if make == "to_arrow" else table.to_dicts()
        assert rows == some.to_dicts()


def test_types_do_not_depend_on_the_values(plan):
    empty = trio().route([])
    assert plan.to_arrow().schema == empty.to_arrow().schema
    assert plan.to_polars().schema == empty.to_polars().schema
    assert plan.to_arrow().schema.field("similarity").type == pa.float64()  # null in every row
    assert plan.to_polars().schema["id"] == pl.String
    assert list(plan.to_pandas().columns) == plan.to_arrow().column_names == plan.to_polars().columns


@pytest.mark.parametrize(
    ("call", "module", "words"),
    [
        ("to_pandas", "pandas", "pip install pandas"),
        ("to_arrow", "pyarrow", r"pip install 'eccos-rs\[parquet\]'"),
        ("to_polars", "polars", "pip install polars"),
        ("plot", "matplotlib", r"pip install 'eccos-rs\[plot\]'"),
    ],
)
def test_a_library_that_is_not_there_is_named(call, module, words, plan, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=words):
        getattr(plan, call)()


def test_the_picture_has_the_plan_each_model_and_the_promise(plan):
    left, right = plan.plot().axes
    lines = {line.get_label(): line.get_xydata() for line in left.lines}
    assert lines["this plan"].tolist() == [[plan.total_cost, 100 * plan.mean_quality]]
    assert lines["promised"][:, 1].tolist() == [70.0, 70.0]
    singles = lines["one model for all"]
    strongest = next(each for each in plan.baselines if each.name == "strongest")
    assert [strongest.cost, 100 * strongest.quality] in [pytest.approx(each) for each in singles.tolist()]
    assert {text.get_text() for text in left.texts} == set(plan.pool.names)
    queries, spent = right.containers
    shares = [100 * plan.models.count(name) / len(plan) for name in plan.pool.names]
    assert [bar.get_width() for bar in queries] == pytest.approx(shares)
    assert sum(bar.get_width() for bar in spent) == pytest.approx(100)


def test_no_mix_of_models_passes_the_line_of_blind_mixes(plan):
    lines = {line.get_label(): line.get_xydata() for line in plan.plot().axes[0].lines}
    hull, singles = lines["blind mix"], lines["one model for all"]
    rng = np.random.default_rng(0)
    for weights in rng.dirichlet(np.ones(len(singles)), 200):
        cost, quality = weights @ singles
        assert np.interp(cost, *hull.T) >= quality - 1e-9


def test_a_picture_of_deferred_and_of_no_queries_is_drawn(overloaded):
    assert "3 of 10 queries deferred" in overloaded.plot().axes[1].get_title(loc="left")
    assert trio().route([]).plot()._repr_png_().startswith(b"\x89PNG")


class _Tables(HTMLParser):
    """Reads tables back, and refuses an end without its beginning."""

    def __init__(self):
        super().__init__()
        self.rows, self.open, self.titles, self.shares = [], [], [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
            self.titles.append(given.get("title"))
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if "--share" in given.get("style", ""):
            self.shares.append(given["style"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def read(page):
    parser = _Tables()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_a_notebook_reads_rows_reasons_and_totals(plan, overloaded):
    found = read(plan._repr_html_())
    assert found.rows[0][:3] == ["#", "query", "model"]
    first = plan.row(0)
    assert found.rows[1][2:4] == [first.model, f"{100 * first.quality:.1f} %"]
    assert found.titles[1] == first.reason
    assert ["", "… 30 more …"] in found.rows
    assert found.shares[0] == f"--share: {100 * first.quality:.1f}%"
    assert any(row[0] == "total cost" for row in found.rows)
    rows = read(overloaded._repr_html_()).rows
    assert sum(row[2] == "- deferred -" for row in rows if len(row) == 7) == 3
    assert all("<" not in cell for row in rows for cell in row)
