"""Queries, where routing has them: see `eccos_rs.domain.query`."""

from eccos_rs.domain.query import Query

__all__ = ["Query"]
