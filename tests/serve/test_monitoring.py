"""Dashboard and alert rules name metrics that the gateway has."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from tests.helpers.paths import ROOT
from tests.helpers.scripted import COMPLETION, Scripted, plain
from tests.helpers.serving import pool_at, running
from tests.serve.test_gateway import gateway

FOLDER = ROOT / "examples" / "monitoring"
NAME = re.compile(r"eccos_[a-z_]+")


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys.write_text('schema_version = 1\n[[key]]\nname = "a"\ntoken = "a-token-0123456789"\nbudget = 1\n')
    from eccos_rs.routing.policy import Policy

    policy = Policy(budget=1.0, per="day", overload="raise")
    with (
        running(Scripted(lambda *_: plain(COMPLETION)), lifespan="off") as url,
        gateway(pool_at(url, slots=4), keys=keys, policy=policy) as front,
    ):
        bearer = {"authorization": "Bearer a-token-0123456789"}
        text = httpx.get(f"{front}/metrics", headers=bearer).text
    found = set(re.findall(r"# TYPE (\S+)", text))
    # A quality is known once something was decided, or judged; a share of known ground by some predictors.
    return found | {
        "eccos_promised_quality",
        "eccos_stream_predicted_quality",
        "eccos_stream_realised_quality",
        "eccos_quality_price_dollars",
        "eccos_familiar_share",
    }


def known(name, families):
    return name in families or re.sub(r"_(bucket|sum|count)$", "", name) in families


def test_every_panel_names_metrics_that_there_are(families):
    board = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(expressions) > 15
    for expression in expressions:
        names = NAME.findall(expression)
        assert names
        assert all(known(name, families) for name in names), expression


def test_every_alert_names_metrics_that_there_are(families):
    rules = (FOLDER / "alert-rules.yml").read_text()
    expressions = re.findall(r"expr: (.*)", rules)
    assert len(expressions) == rules.count("- alert:") > 8
    for expression in expressions:
        names = NAME.findall(expression)
        assert names
        assert all(known(name, families) for name in names), expression
    reasons = set(re.findall(r'reason="(\w+)"', rules))
    assert reasons == {"key"}
