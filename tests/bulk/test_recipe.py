"""The recipe of docs/scale.md with pandas: partitions routed alone at one price meet the promise."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from tests.bulk.test_route_folder import router, rows
from tests.helpers.paths import ROOT


def test_partitions_at_one_price_meet_the_promise_together():
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    frame = pd.DataFrame(rows(400))
    names: dict = {"frame": frame}
    exec(recipe, names)
    assert set(names["routed"].columns) == {"id", "query", "team", "model", "quality", "cost"}
    ours = router()
    many = pd.DataFrame(rows(6_000))
    sample = many["query"].sample(2_000, random_state=0).tolist()
    price = names["price_of_quality"](sample, 0.65, ours)
    parts = [many.iloc[part] for part in np.array_split(np.arange(len(many)), 7)]
    routed = pd.concat([names["route_partition"](part, price, ours) for part in parts])
    plan = ours.route(many["query"].tolist(), min_quality=0.65)
    assert routed["quality"].mean() == pytest.approx(0.65, abs=0.01)
    assert routed["cost"].sum() == pytest.approx(plan.total_cost, rel=0.1)
