"""The append-only journal: each call is written and synced before it counts, so a kill loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from eccos_rs.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ["Journal", "Settings", "read_journal"]

Settings = dict[str, Any]
VERSION = 1


@dataclass(slots=True)
class Journal:
    """An open journal.

    The first line states the settings; each further line is one event: `asked` (before a call leaves),
    `answered`,
    `judged`, `unsure` (a call that may have been charged without an answer), `failed`. A last line that a
    kill tore
    apart is cut off when the journal is opened again; nothing else is ever changed.

    Events from all tasks are written together and synced once, so a slow disk does not slow the calls.
    """

    path: Path
    stream: IO[bytes]
    _pending: list[tuple[bytes, asyncio.Future[None]]] = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _writer: asyncio.Task[None] | None = None
    _broken: OSError | None = None
    _closing: bool = False

    @classmethod
    def open(cls, path: Path, settings: Settings, replay: Callable[[dict[str, Any]], None]) -> Journal:
        """Open a journal, creating it when it is not there, and replay what it holds.

        Parameters
        ----------
        path : Path
            The file.
        settings : dict
            What an answer depends on beside its task and model.
        replay : callable
            Takes each event, in order.

        Raises
        ------
        RecordError
            Another run has it open; it was made with other settings; a line other than the last is damaged.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            stream = path.open("ab+")
        except OSError as error:
            raise RecordError(f"journal {path}: cannot be opened: {error.strerror or error}") from error
        try:
            _lock(stream, path)
            _cut_torn_line(stream)
            stream.seek(0)
            first = next(events := _events(stream, path), None)
            if first is None:
                header = {"journal": VERSION, "settings": settings}
                stream.write(_line(header))
                _sync(stream)
                _sync_folder(path)
            else:
                _check_settings(first, settings, path)
                for event in events:
                    replay(event)
            stream.seek(0, os.SEEK_END)
        except BaseException:
            stream.close()
            raise
        return cls(path, stream)

    async def append(self, event: dict[str, Any]) -> None:
        """Write an event; returns once it is on the disk.

        Raises
        ------
        RecordError
            The disk refuses it.
        """
        self._check()
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((_line(event), done))
        self._wake.set()
        # A cancelled caller must not take its line back: the call was made.
        await asyncio.shield(done)

    async def close(self) -> None:
        """Write what is pending, and give the file free."""
        self._closing = True
        self._wake.set()
        try:
            if self._writer is not None:
                await self._writer
        finally:
            try:
                self.stream.close()
            except OSError as error:
                # What a full disk refused is tried once more on closing; that it failed was told already.
                if self._broken is None:
                    raise self._failure(error) from error

    async def _write_all(self) -> None:
        while not self._closing or self._pending:
            await self._wake.wait()
            batch = self._take()
            try:
                if batch:
                    await asyncio.to_thread(self._flush, batch)
            except OSError as error:
                self._broken = error
            for _, done in batch:
                if not done.done():
                    if self._broken is None:
                        done.set_result(None)
                    else:
                        done.set_exception(self._failure(self._broken))

    def _take(self) -> list[tuple[bytes, asyncio.Future[None]]]:
        batch, self._pending = self._pending, []
        self._wake.clear()
        return batch

    def _flush(self, batch: list[tuple[bytes, asyncio.Future[None]]]) -> None:
        self.stream.write(b"".join(line for line, _ in batch))
        _sync(self.stream)

    def _check(self) -> None:
        if self._broken is not None:
            raise self._failure(self._broken)

    def _failure(self, error: OSError) -> RecordError:
        return RecordError(f"journal {self.path}: cannot be written: {error.strerror or error}")


def _line(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _sync(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(path: Path) -> None:
    # A new file's name is safe only when its folder is synced too; Windows cannot and need not.
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _lock(stream: IO[bytes], path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # there is no such lock on Windows
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise RecordError(f"journal {path}: another run is writing it") from error


def _cut_torn_line(stream: IO[bytes]) -> None:
    """Drop what follows the last line break: a kill came while it was written, so its call never counted."""
    end = stream.seek(0, os.SEEK_END)
    while end > 0:
        start = max(end - 65536, 0)
        stream.seek(start)
        block = stream.read(end - start)
        at = block.rfind(b"\n")
        if at >= 0:
            end = start + at + 1
            break
        end = start
    if end < stream.seek(0, os.SEEK_END):
        stream.truncate(end)
        _sync(stream)


def _events(stream: Iterable[bytes], path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(stream, start=1):
        try:
            event = json.loads(line)
            if not isinstance(event, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            raise RecordError(
                f"journal {path}, line {number}: is damaged ({error}); restore the file, or delete that "
                "line and the "
                "calls it stood for will be made again"
            ) from error
        yield event


def read_journal(path: Path, replay: Callable[[dict[str, Any]], None]) -> None:
    """Replay what a journal holds without opening it for writing; nothing when there is none."""
    if not path.is_file():
        return
    with path.open("rb") as stream:
        whole = (line for line in stream if line.endswith(b"\n"))
        events = _events(whole, path)
        next(events, None)
        for event in events:
            replay(event)


def _check_settings(header: dict[str, Any], settings: Settings, path: Path) -> None:
    if header.get("journal") != VERSION:
        raise RecordError(f"journal {path}: is of version {header.get('journal')!r}, wanted {VERSION}")
    # The first release stated the limit of tokens too; an answer that ended before it stays what it is.
    stated = {
        name: value for name, value in header.get("settings", {}).items() if name != "max_output_tokens"
    }
    for name in {**stated, **settings}:
        if stated.get(name) != settings.get(name):
            raise RecordError(
                f"journal {path}: was made with {name}={stated.get(name)!r}, this run has "
                f"{settings.get(name)!r}; "
                "answers of both must not be mixed: use the same settings, or another journal"
            )
