"""Make the catalogue's models.json from the price map inside LiteLLM's package (MIT), never imported.

    python tools/catalogue/prices.py [DATE]

DATE is the day on which the prices are said to be read, today by default. Only models that answer text are
kept; prices become US dollars per million tokens; a model without a price of its own keeps none.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[2] / "python/eccos_rs/catalogue/data/models.json"
MAP = "model_prices_and_context_window_backup.json"

PRICES = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached": "cache_read_input_token_cost",
    "write": "cache_creation_input_token_cost",
    "write_1h": "cache_creation_input_token_cost_above_1hr",
    "write_12h": "cache_creation_input_token_cost_above_12hr",
}
LANES = {"batch": "_batches", "flex": "_flex", "priority": "_priority"}
LOCAL = {"ollama", "ollama_chat", "lemonade", "llamafile", "lm_studio", "docker_model_runner"}
"""Served on one's own machine: there, a price of 0 is a price."""
_STEP = re.compile(r"^input_cost_per_token_above_(\d+)k_tokens$")
_NO_EFFORT = {"anthropic"}
"""Providers where reasoning alone does not mean that an effort can be chosen (the older take a token
budget)."""


def main(day: str) -> None:
    """Write the catalogue."""
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        raise SystemExit("LiteLLM is not installed: pip install 'eccos-rs[litellm]'")
    raw = (Path(spec.origin).parent / MAP).read_bytes()
    entries = json.loads(raw)
    models = {}
    for key, entry in sorted(entries.items()):
        if key == "sample_spec":
            continue
        if "alias_of" in entry:
            models[key] = {"alias_of": entry["alias_of"]}
        elif entry.get("mode") in ("chat", "responses", "completion"):
            models[key] = trimmed(entry)
    models = {key: each for key, each in models.items() if each.get("alias_of", key) in models}
    head = {
        "schema_version": 1,
        "date": day,
        "source": f"litellm {version('litellm')} (MIT), {MAP}",
        "sha256": hashlib.sha256(raw).hexdigest(),
    }
    lines = [json.dumps(head, indent=1)[:-2] + ",", '"models": {']
    compact = {"ensure_ascii": False, "separators": (",", ":")}
    lines.append(
        ",\n".join(
            f"{json.dumps(key, ensure_ascii=False)}:{json.dumps(m, **compact)}" for key, m in models.items()
        )
    )
    OUT.write_text("\n".join([*lines, "}", "}", ""]), encoding="utf-8")
    priced = sum("input" in each for each in models.values())
    print(f"{OUT}: {len(models)} names, {priced} with a price, {OUT.stat().st_size / 1e6:.2f} MB")


def trimmed(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what routing needs of one entry."""
    provider = entry.get("litellm_provider", "")
    kept: dict[str, Any] = {"provider": provider}
    flat = parse_prices(entry, "")
    steps = [
        {"above": int(match.group(1)) * 1000, **parse_prices(entry, f"_above_{match.group(1)}k_tokens")}
        for name in sorted(entry)
        if (match := _STEP.match(name))
    ]
    if not flat and (tiers := entry.get("tiered_pricing")):
        flat = parse_prices(tiers[0], "")
        steps = [{"above": int(tier["range"][0]), **parse_prices(tier, "")} for tier in tiers[1:]]
    if is_a_price(flat, provider):
        kept |= flat
        lanes = {
            lane: {**prices, **({"steps": lane_steps} if lane_steps else {})}
            for lane, suffix in LANES.items()
            if is_a_price(prices := parse_prices(entry, suffix), provider)
            for lane_steps in [parse_lane_steps(entry, suffix)]
        }
        if off_peak := entry.get("off_peak_pricing"):
            lanes["off_peak"] = {**parse_prices(off_peak, ""), "windows": off_peak["windows"]}
        kept |= {"steps": sorted(steps, key=lambda step: step["above"])} if steps else {}
        kept |= {"lanes": lanes} if lanes else {}
    plain = {
        "context": entry.get("max_input_tokens"),
        "answer": entry.get("max_output_tokens"),
        "vision": entry.get("supports_vision"),
        "tools": entry.get("supports_function_calling"),
        "cache_minimum": entry.get("prompt_cache_min_tokens"),
        "retires": entry.get("deprecation_date"),
        "successor": entry.get("successor_model"),
        "effort": entry.get("default_reasoning_effort"),
    }
    kept |= {
        name: int(value) if isinstance(value, float) else value for name, value in plain.items() if value
    }
    if efforts := parse_efforts(entry, provider):
        kept["efforts"] = efforts
    refused = [
        name
        for name, key in (
            ("sampling", "supports_sampling_params"),
            ("forced_tools", "supports_forced_tool_use"),
        )
        if entry.get(key) is False
    ]
    kept |= {"refuses": refused} if refused else {}
    kept |= {"api": "responses"} if entry.get("mode") == "responses" else {}
    return kept


def parse_prices(entry: dict[str, Any], suffix: str) -> dict[str, float]:
    """Return the prices of a lane or a step, US dollars per million tokens."""
    found = {}
    for name, key in PRICES.items():
        value = entry.get(f"{key}{suffix}")
        if isinstance(value, int | float):
            found[name] = float(f"{value * 1e6:.10g}")
    return found


def parse_lane_steps(entry: dict[str, Any], suffix: str) -> list[dict[str, float]]:
    """Return the steps of a lane's prices with the length of the prompt."""
    pattern = re.compile(rf"^input_cost_per_token_above_(\d+)k_tokens{suffix}$")
    return sorted(
        (
            {
                "above": int(match.group(1)) * 1000,
                **parse_prices(entry, f"_above_{match.group(1)}k_tokens{suffix}"),
            }
            for name in entry
            if (match := pattern.match(name))
        ),
        key=lambda step: step["above"],
    )


def is_a_price(prices: dict[str, float], provider: str) -> bool:
    """Say whether both sides are priced: a 0 of a host that sells answers is a gap in the map."""
    if "input" not in prices or "output" not in prices:
        return False
    return provider in LOCAL or (prices["input"] > 0 and prices["output"] > 0)


def parse_efforts(entry: dict[str, Any], provider: str) -> list[str]:
    """Return the reasoning efforts that a model takes, in rising order."""
    if "reasoning_effort_levels" in entry:
        return list(entry["reasoning_effort_levels"])
    if not entry.get("supports_reasoning") or (
        provider in _NO_EFFORT and not entry.get("supports_output_config")
    ):
        return []
    told = {
        level: entry.get(f"supports_{level}_reasoning_effort")
        for level in ("none", "minimal", "low", "xhigh", "max")
    }
    usual = {"low": told["low"] is not False, "medium": True, "high": True}
    levels = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    return [level for level in levels if usual.get(level, bool(told.get(level)))]


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else datetime.date.today().isoformat())
