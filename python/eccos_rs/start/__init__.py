"""From a log of real requests to a verdict: is routing worth it here, and what would it cost to know."""

from eccos_rs.start.options import StartOptions
from eccos_rs.start.result import StartResult
from eccos_rs.start.run import start

__all__ = ["StartOptions", "StartResult", "start"]
