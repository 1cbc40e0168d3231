"""Files of public repositories at a commit, checked by their git object ids."""

from __future__ import annotations

import hashlib
import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
HOST = "https://raw.githubusercontent.com"
_SECONDS = 300


class SourceError(RuntimeError):
    """A file cannot be had, or is not the one that is named."""


class Sources:
    """The files that the sets are built from.

    Parameters
    ----------
    cache : Path
        Where fetched files are kept, by their ids.
    clones : mapping of str to str
        Source to a clone of its repository, read in place of the network.
    host : str
        What precedes repository, commit and path in an address.
    """

    def __init__(self, cache: Path, clones: dict[str, str], host: str = HOST) -> None:
        self.table = json.loads((HERE / "sources.json").read_text(encoding="utf-8"))
        unknown = set(clones) - set(self.table)
        if unknown:
            raise SystemExit(f"--clone: got {', '.join(unknown)}, wanted some of {', '.join(self.table)}")
        self._cache, self._clones, self._host = cache, clones, host

    def read(self, source: str, name: str) -> bytes:
        """Return a file's bytes.

        Raises
        ------
        SourceError
            It cannot be had, or its git object id is another.
        """
        entry = self.table[source]
        path, wanted = entry["files"][name]
        if source in self._clones:
            command = ["git", "-C", self._clones[source], "cat-file", "blob", wanted]
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode:
                raise SourceError(f"{self._clones[source]} does not hold {path} ({wanted})")
            return done.stdout
        kept = self._cache / wanted
        if kept.is_file() and object_id(kept.read_bytes()) == wanted:
            return kept.read_bytes()
        url = "/".join((self._host, entry["repository"], entry["commit"], urllib.parse.quote(path)))
        try:
            with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
                data: bytes = answer.read()
        except (urllib.error.URLError, OSError) as error:
            raise SourceError(f"{url}: {error}") from error
        if object_id(data) != wanted:
            raise SourceError(f"{url}: got the git object {object_id(data)}, wanted {wanted}")
        self._cache.mkdir(parents=True, exist_ok=True)
        beside = kept.with_suffix(".part")
        beside.write_bytes(data)
        beside.replace(kept)
        return data


def object_id(data: bytes) -> str:
    """Return the id by which git names a file of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
