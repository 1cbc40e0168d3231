"""Why a call brought no answer, and what may be done: read from a server's status or a broken connection."""

from __future__ import annotations

import errno
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import EccosError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CallError", "brief", "connection_error", "never_connected", "retry_after", "status_error"]

# Past this a server's Retry-After is taken for a refusal.
LONGEST_WAIT = 900.0


class CallError(EccosError):
    """A call that brought no answer.

    Attributes
    ----------
    again : bool
        Another attempt may bring one.
    charged : bool
        The server may have charged for it all the same.
    wait : float or None
        Seconds that the server asks to wait.
    fatal : bool
        No call to this endpoint can succeed (a wrong key, no such model).
    """

    def __init__(
        self,
        message: str,
        *,
        again: bool = False,
        charged: bool = False,
        wait: float | None = None,
        fatal: bool = False,
    ) -> None:
        super().__init__(message)
        self.again = again
        self.charged = charged
        self.wait = wait
        self.fatal = fatal


def status_error(error: Any) -> CallError:
    """Say what a status of the server means."""
    status = int(error.status_code)
    message = f"status {status}: {brief(error)}"
    if status in (401, 403, 404):
        return CallError(message, fatal=True)
    if status == 429 and "insufficient_quota" in str(error):
        return CallError(message, fatal=True)
    wait = retry_after(error.response.headers)
    if wait is not None and wait > LONGEST_WAIT:
        return CallError(f"{message}; it asks to wait {wait:g} s", fatal=True)
    # 5xx and 408 may come after the work was done.
    charged = status >= 500 and status != 503
    return CallError(
        message, again=status in (408, 409, 425, 429) or status >= 500, charged=charged, wait=wait
    )


def connection_error(error: Any) -> CallError:
    """Say what a connection that failed means."""
    refused = never_connected(error)
    what = "the connection was refused" if refused else "the connection broke"
    return CallError(f"{what}: {brief(error.__cause__ or error)}", again=True, charged=not refused)


# What the system answers while a connection is being made; a broken one gives ECONNRESET, EPIPE and the like.
_NOT_CONNECTED = frozenset(
    {
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
        errno.EADDRNOTAVAIL,
    }
)
# The HTTP libraries name a failed connection alike, and not all of them keep the system's error behind it.
_BEFORE_THE_CALL = (socket.gaierror, ssl.SSLCertVerificationError)
_CONNECT_ERRORS = frozenset({"ConnectError", "ConnectTimeout", "ConnectionTimeoutError", "PoolTimeout"})


def never_connected(error: BaseException) -> bool:
    """Tell whether the call failed before a connection stood, so that nothing can have been charged.

    Read from the chain of causes, whichever HTTP library the client uses inside.
    """
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if type(each).__name__ in _CONNECT_ERRORS or isinstance(
            each, socket.gaierror | ssl.SSLCertVerificationError
        ):
            return True
        if isinstance(each, OSError) and each.errno in _NOT_CONNECTED:
            return True
        pending += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            pending += each.exceptions
    return False


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, from `Retry-After-Ms` or `Retry-After` (also a date)."""
    try:
        if "retry-after-ms" in headers:
            return max(float(headers["retry-after-ms"]) / 1000.0, 0.0)
        stated = headers.get("retry-after")
        if stated is None:
            return None
        try:
            return max(float(stated), 0.0)
        except ValueError:
            return max(parsedate_to_datetime(stated).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError):
        return None


def brief(error: Any) -> str:
    """Return an error in one short line."""
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:200]
