"""The endpoints of the pool: one request out, its answer or the reason why another model should be asked."""

from eccos_rs.serve.upstream.client import Outbound, Upstream
from eccos_rs.serve.upstream.errors import UpstreamDisconnected, UpstreamError
from eccos_rs.serve.upstream.reply import Reply

__all__ = ["Outbound", "Reply", "Upstream", "UpstreamDisconnected", "UpstreamError"]
