"""Notices sessions that count the limits of one endpoint in different places and so exceed them together."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import tempfile
import uuid
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eccos_rs.pools.pool import LLM
    from eccos_rs.session.limits.exchange import ModelLimit

__all__ = ["Announcement", "limited_endpoints"]

logger = logging.getLogger("eccos_rs.session")

try:
    import fcntl
except ImportError:  # Windows: sessions of other processes are not noticed
    fcntl = None  # type: ignore[assignment]


def limited_endpoints(llms: Sequence[LLM], limits: Sequence[ModelLimit]) -> dict[str, str]:
    """Return the models that have a limit: from what tells their endpoint and account apart to their name."""
    found = {}
    for llm, limit in zip(llms, limits, strict=True):
        if limit[1:] == (None, None, None):
            continue
        endpoint = llm.endpoint
        account = (
            (llm.name,)
            if endpoint is None
            else (endpoint.base_url, endpoint.model or llm.name, endpoint.api_key_env)
        )
        found[hashlib.sha256(repr(account).encode()).hexdigest()[:24]] = llm.name
    return found


class Announcement:
    """Says on this host which limits a session counts and where, until `close`.

    Sessions of one user see each other's announcements: files that are locked for as long as their process
    lives. One that counts the same limits elsewhere is named in a WARNING line.

    Parameters
    ----------
    endpoints : mapping of str to str
        From `limited_endpoints`.
    where : str
        The store, or a name of the session's own where it counts for itself.
    shown : str
        How to name that place.
    folder : Path, optional
        Where announcements lie.
    """

    def __init__(
        self, endpoints: Mapping[str, str], where: str, shown: str, folder: Path | None = None
    ) -> None:
        self._file: IO[str] | None = None
        self._path: Path | None = None
        if not endpoints or fcntl is None:
            return
        folder = folder or Path(tempfile.gettempdir()) / f"eccos-limits-{os.getuid()}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            owner = folder.lstat()
            if not stat.S_ISDIR(owner.st_mode) or owner.st_uid != os.getuid():
                return  # somebody else's
            self._warn(endpoints, where, folder)
            self._announce(endpoints, where, shown, folder)
        except OSError as error:
            logger.debug("limits that are counted twice cannot be noticed: %s", error)

    def _warn(self, endpoints: Mapping[str, str], where: str, folder: Path) -> None:
        for path in sorted(folder.glob("*.json")):
            other = _read(path)
            if other is None or other["where"] == where:
                continue
            twice = sorted(name for key, name in endpoints.items() if key in other["endpoints"])
            if twice:
                logger.warning(
                    "the limits of %s are counted twice on this host: process %s counts them in %s, so that "
                    "together they may use twice as much. Give both one store (store=, --store)",
                    ", ".join(twice),
                    other["pid"],
                    other["shown"],
                )

    def _announce(self, endpoints: Mapping[str, str], where: str, shown: str, folder: Path) -> None:
        said = {"where": where, "shown": shown, "pid": os.getpid(), "endpoints": sorted(endpoints)}
        self._path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.json"
        hidden = self._path.with_suffix(".new")
        self._file = hidden.open("w", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        json.dump(said, self._file)
        self._file.flush()
        hidden.rename(self._path)

    def close(self) -> None:
        """Take the announcement back."""
        if self._file is not None and self._path is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a living session has announced; what a dead one has left is deleted."""
    try:
        with path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found: dict[str, Any] = json.load(file)
                return found
            path.unlink(missing_ok=True)
    except (OSError, ValueError):
        pass  # it has just ended
    return None
