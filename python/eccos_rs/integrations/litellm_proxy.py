"""The routing plugin of the LiteLLM proxy, made of its ``config.yaml`` alone; see docs/litellm.md.

The proxy imports ``plugin`` of this module when its configuration names it::

    router_settings:
      plugins: ["eccos_rs.integrations.litellm_proxy.plugin"]
    eccos:
      min_quality: 0.8

What is wrong with the section ``eccos`` stops the proxy with a sentence, before it serves anything.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.validation import did_you_mean, is_number, shown
from eccos_rs.errors import PoolError
from eccos_rs.integrations.litellm import HOLD_SECONDS, EccosPlugin
from eccos_rs.integrations.litellm_config import read_config
from eccos_rs.integrations.pricing import parse_number
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ProxyPlugin", "plugin_of_config"]

_SECTION = "eccos"
_PROXY = "litellm.proxy.proxy_server"
_POLICY = tuple(field.name for field in fields(Policy))
_OWN = ("bundle", "pool", "names", "hold")

_made: dict[Path, ProxyPlugin] = {}
"""By configuration file: the proxy may read its configuration more than once."""


class ProxyPlugin(EccosPlugin):
    """An `EccosPlugin` that finds the router of the proxy by itself."""

    _followed: Any = None

    async def run(self, context: Any) -> Any:
        """Choose among the candidates, as `EccosPlugin.run` does."""
        router = getattr(sys.modules.get(_PROXY), "llm_router", None)
        if router is not None and router is not self._followed:
            self._followed = router
            self.follow(router)
        return await super().run(context)


def plugin_of_config(path: Path) -> ProxyPlugin:
    """Make the plugin of a configuration file of the proxy.

    Parameters
    ----------
    path : Path
        A YAML file with a ``model_list``. Its section ``eccos`` may hold the fields of `Policy`, ``bundle``
        (a folder or the name of a shipped one), ``pool`` (a pool file), ``names`` (from
        ``litellm_params.model`` to the name in the pool) and ``hold`` (seconds).

    Returns
    -------
    ProxyPlugin

    Raises
    ------
    PoolError, PolicyError, BundleError
        What is wrong, by name.
    """
    content = read_config(path)
    section = content.get(_SECTION) or {}
    if not isinstance(section, dict):
        raise PoolError(f"{path}: {_SECTION} must be a table, got {shown(section)}")
    for key in section:
        if key not in (*_OWN, *_POLICY):
            raise PoolError(f"{path}: {_SECTION}.{key} is no setting{did_you_mean(key, (*_OWN, *_POLICY))}")
    plugin: ProxyPlugin = ProxyPlugin.open(
        content["model_list"],
        pool=_pool(path, section),
        policy=_policy(path, section),
        bundle=section.get("bundle"),
        names=_names(path, section),
        hold=_hold(path, section),
    )
    return plugin


def _pool(path: Path, section: Mapping[str, Any]) -> Pool | None:
    named = section.get("pool")
    return None if named is None else Pool.load(path.parent / str(named))


def _policy(path: Path, section: Mapping[str, Any]) -> Policy | None:
    given: dict[str, Any] = {}
    for key in _POLICY:
        if key in section:
            value = section[key]
            reads = isinstance(value, str) and value.startswith("os.environ/")
            given[key] = parse_number(value, str(path), f"{_SECTION}.{key}") if reads else value
    return Policy(**given) if given else None


def _names(path: Path, section: Mapping[str, Any]) -> dict[str, str] | None:
    names = section.get("names")
    if names is not None and not (
        isinstance(names, dict) and all(isinstance(each, str) for pair in names.items() for each in pair)
    ):
        raise PoolError(f"{path}: {_SECTION}.names must map texts to texts, got {shown(names)}")
    return names


def _hold(path: Path, section: Mapping[str, Any]) -> float:
    hold = section.get("hold", HOLD_SECONDS)
    if not is_number(hold) or not hold > 0:
        raise PoolError(f"{path}: {_SECTION}.hold must be a number of seconds above 0, got {shown(hold)}")
    return float(hold)


def __getattr__(name: str) -> Any:
    """Make ``plugin`` when the proxy asks for it: the file that it is reading then is known."""
    if name != "plugin":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    path = getattr(sys.modules.get(_PROXY), "user_config_file_path", None)
    if not path:
        raise AttributeError(
            f"{__name__}.plugin is there inside the LiteLLM proxy only, which reads a config.yaml; "
            "elsewhere use eccos_rs.integrations.litellm.EccosPlugin"
        )
    place = Path(path).resolve()
    if place in _made:
        _made.pop(place).close()
    _made[place] = plugin_of_config(place)
    return _made[place]
