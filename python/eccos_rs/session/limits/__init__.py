"""Limits of a pool while it serves: slots, requests per minute, tokens per minute."""

from eccos_rs.session.limits.base import Claim, Grant, RateLimiter
from eccos_rs.session.limits.local import LocalLimiter
from eccos_rs.session.limits.window import ModelLoad, Window

__all__ = ["Claim", "Grant", "LocalLimiter", "ModelLoad", "RateLimiter", "Window"]
