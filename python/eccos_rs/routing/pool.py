"""Pools and models, where routing has them: see `eccos_rs.pools`."""

from eccos_rs.pools.pool import LLM, SCHEMA_VERSION, Endpoint, Limit, Pool, PriceStep

__all__ = ["LLM", "SCHEMA_VERSION", "Endpoint", "Limit", "Pool", "PriceStep"]
