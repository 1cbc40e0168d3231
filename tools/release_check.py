"""Check what a tag promises: one version everywhere, dated notes, and what is in the wheel."""

from __future__ import annotations

import re
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def version() -> str:
    """Return the version of the workspace."""
    table = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    return str(table["workspace"]["package"]["version"])


def problems(wheels: list[Path]) -> list[str]:
    """Return what is wrong, a sentence each."""
    now, found = version(), []
    notes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## \[{re.escape(now)}\] - \d{{4}}-\d\d-\d\d$", notes, re.MULTILINE):
        found.append(f"CHANGELOG.md has no dated section for {now}")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    if not re.search(rf"^version: [\"']?{re.escape(now)}[\"']?$", citation, re.MULTILINE):
        found.append(f"CITATION.cff names another version than {now}")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if relative := re.findall(r"\]\((?!https?:|#)([^)]+)\)", readme):
        found.append(f"README.md has links that an index cannot follow: {', '.join(relative[:3])}")
    if "$$" in readme:
        found.append("README.md has formulas that an index shows as they are written")
    if not wheels:
        found.append("dist/ holds no wheel of this version: make wheel")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
            said = message_from_bytes(archive.read(metadata))
        wanted = ("LICENSE", "NOTICE", "THIRD_PARTY_LICENSES.txt", "bundle.toml", "weights.bin", "py.typed")
        missing = [name for name in wanted if not any(each.endswith(name) for each in names)]
        found += [f"{wheel.name} lacks {name}" for name in missing]
        if said["Version"] != now:
            found.append(f"{wheel.name} has version {said['Version']}, wanted {now}")
        if not said.get_all("Project-URL"):
            found.append(f"{wheel.name} has no project URLs")
    return found


def main() -> int:
    """Print what is wrong; 1 when something is."""
    found = problems(sorted((ROOT / "dist").glob(f"eccos_rs-{version()}-*.whl")))
    sys.stdout.write("".join(f"{sentence}\n" for sentence in found) or f"{version()} may be tagged\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
