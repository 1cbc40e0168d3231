"""A trained router on disk: one folder, described by ``bundle.toml``, every file checked by its sha256."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.renamed import moved
from eccos_rs.errors import BundleError, MissingExtraError
from eccos_rs.predict.manifest import (
    MANIFEST,
    PLAIN_NAME,
    SCHEMA_VERSION,
    check_files,
    check_manifest,
    check_name,
    read_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["DAY_ONE_BUNDLE", "DEFAULT_BUNDLE", "SCHEMA_VERSION", "Bundle", "write_bundle"]

DEFAULT_BUNDLE = "qaserve-minilm"
DAY_ONE_BUNDLE = "day-one"
"""Names no model: forecasts any from its published scores."""
SHIPPED = Path(__file__).resolve().parents[1] / "models"


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained router on disk, opened and checked; `open_predictor` makes a predictor of it.

    Attributes
    ----------
    path : Path
        The folder.
    manifest : mapping
        What ``bundle.toml`` says.
    digest : str
        sha256 of ``bundle.toml``, which names the sha256 of every other file: two bundles with one digest
        predict the same.
    """

    path: Path
    manifest: Mapping[str, Any]
    digest: str

    @property
    def name(self) -> str:
        """The name it was given when it was made."""
        return str(self.manifest["name"])

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models it predicts, in column order."""
        return tuple(self.manifest["models"])

    @property
    def pool_path(self) -> Path:
        """The pool file that came with it: the models with their prices."""
        return self.file("pool.toml")

    @property
    def reference(self) -> str:
        """What `load` finds it by: a shipped bundle's name, which holds on any machine, else its path."""
        shipped = self.path.parent.resolve() == SHIPPED.resolve()
        return self.path.name if shipped else str(self.path.resolve())

    @property
    def size(self) -> int:
        """Bytes of all its files together."""
        return sum((self.path / name).stat().st_size for name in self.manifest["files"])

    def file(self, name: str) -> Path:
        """Return the path of one of its files.

        Raises
        ------
        BundleError
            If the manifest does not list it.
        """
        if name in self.manifest["files"]:
            return self.path / name
        if name in self.shared:
            return _lender(self.path, self.manifest) / name
        raise BundleError(f"{self.path / MANIFEST}: no file {name!r} is listed under [files]")

    @property
    def has_pool(self) -> bool:
        """Whether a pool file came with it."""
        return "pool.toml" in self.manifest["files"]

    @property
    def shared(self) -> Mapping[str, str]:
        """The files that a bundle beside it lends, and their sha256: one encoder need not lie twice."""
        lent: Mapping[str, str] = self.manifest.get("shared", {}).get("files", {})
        return lent

    @property
    def weights_folder(self) -> Path | None:
        """The folder of the encoder's weight file, where that is another bundle's."""
        return _lender(self.path, self.manifest) if self.shared else None

    @property
    def is_prior(self) -> bool:
        """Whether it names no model and forecasts any from its published scores."""
        return "prior" in self.manifest

    def table(self, name: str) -> Mapping[str, Any]:
        """Return one table of the manifest, such as ``encoder``.

        Raises
        ------
        BundleError
            If it is not there.
        """
        found = self.manifest.get(name)
        if not isinstance(found, dict):
            raise BundleError(f"{self.path / MANIFEST}: the table [{name}] is missing")
        return found

    @classmethod
    def load(cls, path_or_name: str | os.PathLike[str] | None = None) -> Bundle:
        """Open a bundle and check every file in it.

        Parameters
        ----------
        path_or_name : str or path-like, optional
            A folder, or the name of a shipped bundle; a shipped name is tried first. The default is the
            bundle that lies in the wheel.

        Returns
        -------
        Bundle
            Checked: the schema is known, every listed file is there and has its sha256.

        Raises
        ------
        BundleError
            If the folder is missing, its schema is newer, or a file is missing or altered; says which.
        """
        path = _find(DEFAULT_BUNDLE if path_or_name is None else path_or_name)
        text = read_manifest(path)
        try:
            manifest = tomllib.loads(text.decode("utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BundleError(f"{path / MANIFEST}: not valid TOML: {error}") from None
        check_manifest(path, manifest)
        check_files(path, manifest["files"])
        if "shared" in manifest:
            check_files(_lender(path, manifest), manifest["shared"]["files"])
        return cls(path=path, manifest=manifest, digest=hashlib.sha256(text).hexdigest())

    predictor = moved("eccos_rs.predict.open", "open_predictor")

    def __repr__(self) -> str:
        return (
            f"Bundle({self.name!r}, {len(self.models)} models, {self.size / 1e6:.1f} MB, {str(self.path)!r})"
        )


def write_bundle(
    folder: str | os.PathLike[str], manifest: Mapping[str, Any], files: Mapping[str, bytes | os.PathLike[str]]
) -> Bundle:
    """Write a bundle so that nobody ever sees half of it.

    Everything is written into a new folder beside `folder`, synced, and renamed; an older `folder` goes last.

    Parameters
    ----------
    folder : path-like
        Where the bundle shall lie; its parent is made when missing.
    manifest : mapping
        What goes into ``bundle.toml``; ``schema_version`` and ``[files]`` are filled in here.
    files : mapping of str to bytes or path-like
        File name to content, or to the file to copy.

    Returns
    -------
    Bundle
        Loaded back, so checked.

    Raises
    ------
    BundleError
        If the manifest lacks a part or a file name is not a plain one.
    OSError
        If the disk is full or the folder may not be written.
    """
    try:
        import tomli_w
    except ImportError:
        raise MissingExtraError("writing a bundle needs tomli-w: pip install 'eccos-rs[train]'") from None

    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        digests = {}
        for name, content in sorted(files.items()):
            check_name(target, name)
            data = content if isinstance(content, bytes) else Path(content).read_bytes()
            digests[name] = hashlib.sha256(data).hexdigest()
            _write_synced(scratch / name, data)
        full = {"schema_version": SCHEMA_VERSION, **manifest, "files": digests}
        check_manifest(target, full)
        _write_synced(scratch / MANIFEST, tomli_w.dumps(full).encode())
        scratch.chmod(0o755)
        _swap_in(scratch, target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Bundle.load(target.resolve())


def _swap_in(scratch: Path, target: Path) -> None:
    """Rename `scratch` to `target`; an older `target` is put back if that fails."""
    if not target.exists():
        os.rename(scratch, target)
    else:
        retired = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
        os.rename(target, retired / "bundle")
        try:
            os.rename(scratch, target)
        except BaseException:
            os.rename(retired / "bundle", target)
            raise
        finally:
            shutil.rmtree(retired, ignore_errors=True)
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _find(path_or_name: str | os.PathLike[str]) -> Path:
    name = os.fspath(path_or_name)
    if PLAIN_NAME.fullmatch(name) and (SHIPPED / name / MANIFEST).is_file():
        return SHIPPED / name
    path = Path(name)
    if path.is_dir():
        return path
    shipped = sorted(each.parent.name for each in SHIPPED.glob(f"*/{MANIFEST}"))
    known = f"the shipped bundles are {', '.join(shipped)}" if shipped else "no bundle is shipped here"
    raise BundleError(f"no bundle {name!r}: neither a folder nor a shipped name; {known}")


def _lender(path: Path, manifest: Mapping[str, Any]) -> Path:
    """Return the folder of the bundle that lends files: beside this one, or shipped."""
    name = str(manifest["shared"]["bundle"])
    beside = path.parent / name
    return beside if (beside / MANIFEST).is_file() else SHIPPED / name
