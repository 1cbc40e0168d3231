"""Write THIRD_PARTY_LICENSES.txt: the Rust crates inside the wheel, each with its licence and its text.

With ``--check`` nothing is written: the exit status is 1 when the file lacks a crate of Cargo.lock.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "THIRD_PARTY_LICENSES.txt"
# Of several texts in a crate the one that this project takes: all of them allow Apache-2.0 or are permissive.
WANTED = ("LICENSE-APACHE", "LICENSE", "LICENSE-MIT", "COPYING", "license", "LICENCE")


def crates() -> list[dict[str, str]]:
    """Return the crates that the extension is linked from, on any platform, by name."""
    called = ["cargo", "metadata", "--format-version", "1", "--locked"]
    made = subprocess.run(called, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    graph = json.loads(made)
    packages = {package["id"]: package for package in graph["packages"]}
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    waiting = [key for key, package in packages.items() if package["name"] == "eccos-py"]
    seen: set[str] = set()
    while waiting:
        key = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        for dependency in nodes[key]["deps"]:
            # Macros and build scripts run while compiling and leave nothing of themselves in the wheel, yet
            # naming them costs nothing; what only tests need is left out.
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    outside = [packages[key] for key in seen if packages[key]["source"] is not None]
    return sorted(outside, key=lambda package: (package["name"], package["version"]))


def line(package: dict[str, str]) -> str:
    """Return the line that names a crate."""
    return f"{package['name']} {package['version']} ({package['license'] or 'see its text'})"


def text(package: dict[str, str]) -> str:
    """Return the licence text that lies in a crate."""
    folder = Path(package["manifest_path"]).parent
    for name in WANTED:
        for path in sorted(folder.glob(f"{name}*")):
            if path.is_file():
                return path.read_text(encoding="utf-8", errors="replace").strip()
    return f"No text lies in the crate; see {package['repository'] or 'crates.io'}."


def main() -> int:
    """Write or check the file."""
    found = crates()
    names = "\n".join(line(package) for package in found)
    if "--check" in sys.argv[1:]:
        written = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
        if names not in written:
            sys.stderr.write(f"{TARGET.name} is out of date: run python tools/licences.py\n")
            return 1
        return 0
    texts: dict[str, list[str]] = {}
    for package in found:
        texts.setdefault(text(package), []).append(line(package))
    parts = [f"Rust crates that eccos-rs is compiled from\n\n{names}\n"]
    for content, users in texts.items():
        parts.append(f"{'=' * 80}\n{chr(10).join(users)}\n{'-' * 80}\n{content}\n")
    TARGET.write_text("\n".join(parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
