"""A trained router on disk: one folder, described by ``bundle.toml``, every file checked by its sha256."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import BundleError, InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eccos_rs.predict.trained import BundlePredictor

__all__ = ["DEFAULT_BUNDLE", "SCHEMA_VERSION", "Bundle", "write_bundle"]

SCHEMA_VERSION = 1
DEFAULT_BUNDLE = "qaserve-minilm"
MANIFEST = "bundle.toml"
SHIPPED = Path(__file__).resolve().parents[1] / "models"
KINDS = ("trained", "retrieval", "hybrid")

# A file of a bundle lies in its folder: no separators, nothing hidden, so a manifest cannot point outside.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained router on disk, opened and checked.

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
        if name not in self.manifest["files"]:
            raise BundleError(f"{self.path / MANIFEST}: no file {name!r} is listed under [files]")
        return self.path / name

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
        text = _read_manifest(path)
        try:
            manifest = tomllib.loads(text.decode("utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BundleError(f"{path / MANIFEST}: not valid TOML: {error}") from None
        _check_manifest(path, manifest)
        _check_files(path, manifest["files"])
        return cls(path=path, manifest=manifest, digest=hashlib.sha256(text).hexdigest())

    def predictor(
        self,
        kind: str = "hybrid",
        *,
        device: str = "auto",
        threads: int | None = None,
        variant: str | None = None,
        cache_size: int | None = None,
    ) -> BundlePredictor:
        """Make a predictor out of it.

        Parameters
        ----------
        kind : {"hybrid", "trained", "retrieval"}
            Heads and neighbours blended, the heads alone, or the neighbours alone.
        device : {"auto", "cpu", "cuda", "tensorrt"}
            ``auto`` takes CUDA when it can really be started, else the CPU; `predictor.device` says which.
        threads : int, optional
            CPU threads for the encoder; never more than the process may run on. The default is all of those.
        variant : {"float32", "int8", "float16"}, optional
            The encoder's arithmetic, of those that passed their accuracy check. The default is the fastest
            one that the device computes without loss.
        cache_size : int, optional
            Number of texts whose encodings are remembered; 0 for none. The default is 8192 on a CPU, and none
            on a GPU, where encoding again is as fast.

        Returns
        -------
        TrainedPredictor, RetrievalPredictor or HybridPredictor

        Raises
        ------
        InputError
            If `kind`, `device` or `variant` is not one of these.
        DeviceError
            If the device that was asked for cannot be had.
        """
        from eccos_rs.predict.hybrid import HybridPredictor
        from eccos_rs.predict.trained import RetrievalPredictor, TrainedPredictor

        kinds: dict[str, type[BundlePredictor]] = {
            "trained": TrainedPredictor,
            "retrieval": RetrievalPredictor,
            "hybrid": HybridPredictor,
        }
        if kind not in kinds:
            raise InputError(f"kind: got {kind!r}, wanted one of {', '.join(KINDS)}")
        return kinds[kind](self, device=device, threads=threads, variant=variant, cache_size=cache_size)

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
            _check_name(target, name)
            data = content if isinstance(content, bytes) else Path(content).read_bytes()
            digests[name] = hashlib.sha256(data).hexdigest()
            _write_synced(scratch / name, data)
        full = {"schema_version": SCHEMA_VERSION, **manifest, "files": digests}
        _check_manifest(target, full)
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
    if _PLAIN_NAME.fullmatch(name) and (SHIPPED / name / MANIFEST).is_file():
        return SHIPPED / name
    path = Path(name)
    if path.is_dir():
        return path
    shipped = sorted(each.parent.name for each in SHIPPED.glob(f"*/{MANIFEST}"))
    known = f"the shipped bundles are {', '.join(shipped)}" if shipped else "no bundle is shipped here"
    raise BundleError(f"no bundle {name!r}: neither a folder nor a shipped name; {known}")


def _read_manifest(path: Path) -> bytes:
    try:
        return (path / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{path}: not a bundle, {MANIFEST} is missing") from None
    except OSError as error:
        raise BundleError(f"{path / MANIFEST}: cannot be read: {error.strerror}") from None


def _check_name(path: Path, name: object) -> None:
    if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name) or name == MANIFEST:
        raise BundleError(f"{path / MANIFEST}: {name!r} under [files] is not a plain file name")


def _check_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a schema nobody here knows and a manifest without its fixed parts."""
    where = path / MANIFEST
    version = manifest.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(f"{where}: schema_version: got {version!r}, wanted {SCHEMA_VERSION}")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{where}: schema_version {version} is newer than this release reads ({SCHEMA_VERSION}); "
            "upgrade with: pip install -U eccos-rs"
        )
    models = manifest.get("models")
    if (
        not isinstance(models, list)
        or not models
        or not all(isinstance(each, str) and each for each in models)
    ):
        raise BundleError(f"{where}: models: got {models!r}, wanted a list of model names")
    if len(set(models)) != len(models):
        raise BundleError(f"{where}: models: a name occurs twice in {models}")
    for key, kind in (("name", str), ("encoder", dict), ("files", dict)):
        if not isinstance(manifest.get(key), kind):
            raise BundleError(f"{where}: {key} is missing or malformed")
    for name, digest in manifest["files"].items():
        _check_name(path, name)
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise BundleError(f"{where}: {name}: got sha256 {digest!r}, wanted 64 hexadecimal digits")


def _check_files(path: Path, digests: Mapping[str, str]) -> None:
    """Check every listed file against its sha256; hashing releases the GIL, so the files go side by side."""

    def check(item: tuple[str, str]) -> str | None:
        name, wanted = item
        try:
            with (path / name).open("rb") as stream:
                got = hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            return f"{path / name}: missing"
        except OSError as error:
            return f"{path / name}: cannot be read: {error.strerror}"
        if got != wanted:
            return f"{path / name}: altered or truncated: sha256 is {got[:12]}…, wanted {wanted[:12]}…"
        return None

    with ThreadPoolExecutor(max_workers=4) as pool:
        problems = [problem for problem in pool.map(check, digests.items()) if problem is not None]
    if problems:
        raise BundleError("; ".join(problems))
