"""What ``bundle.toml`` may say, and whether the files it lists are the ones that lie there."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "MANIFEST",
    "PLAIN_NAME",
    "SCHEMA_VERSION",
    "check_files",
    "check_manifest",
    "check_name",
    "read_manifest",
]

SCHEMA_VERSION = 1
MANIFEST = "bundle.toml"
# A file of a bundle lies in its folder: no separators, nothing hidden, so a manifest cannot point outside.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_manifest(path: Path) -> bytes:
    """Return ``bundle.toml`` of a folder."""
    try:
        return (path / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{path}: not a bundle, {MANIFEST} is missing") from None
    except OSError as error:
        raise BundleError(f"{path / MANIFEST}: cannot be read: {error.strerror}") from None


def check_name(path: Path, name: object) -> None:
    """Refuse a file name that could lie elsewhere."""
    if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name) or name == MANIFEST:
        raise BundleError(f"{path / MANIFEST}: {name!r} under [files] is not a plain file name")


def check_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
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
        or not (models or "prior" in manifest)
        or not all(isinstance(each, str) and each for each in models)
    ):
        raise BundleError(f"{where}: models: got {models!r}, wanted a list of model names")
    if len(set(models)) != len(models):
        raise BundleError(f"{where}: models: a name occurs twice in {models}")
    for key, kind in (("name", str), ("encoder", dict), ("files", dict)):
        if not isinstance(manifest.get(key), kind):
            raise BundleError(f"{where}: {key} is missing or malformed")
    shared = manifest.get("shared", {"bundle": "none", "files": {}})
    if (
        not isinstance(shared, dict)
        or not isinstance(shared.get("files"), dict)
        or not isinstance(shared.get("bundle"), str)
        or not PLAIN_NAME.fullmatch(shared["bundle"])
    ):
        raise BundleError(f"{where}: shared: got {shared!r}, wanted the name of a bundle and its files")
    for name, digest in [*manifest["files"].items(), *shared["files"].items()]:
        check_name(path, name)
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise BundleError(f"{where}: {name}: got sha256 {digest!r}, wanted 64 hexadecimal digits")


def check_files(path: Path, digests: Mapping[str, str]) -> None:
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
