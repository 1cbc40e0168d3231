"""Build the labelled sets that the figures stand on from public sources, and check those that are there.

    python tools/data/build.py FOLDER                   make what is missing, check what is there
    python tools/data/build.py FOLDER --check           check alone: no network
    python tools/data/build.py FOLDER --clone zeroeval=CLONE ...   read clones, not the network

`sources.json` names each source's repository, commit and files with their git object ids: a file that was
fetched is checked against its id. `sets.json` says what each set held when the figures were made: sha256 of
the files, and for each model a digest of its rows and how many answers were right. `questions.json` names the
questions by their numbers in the source; no text is kept here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sets import BUILDERS, Rows, write_set
from sources import HOST, Sources

HERE = Path(__file__).parent
TOLERATED = 0.02
"""Share of a model's answers that may be graded otherwise than when the figures were made: who grades free
text by another rule reads a few answers differently."""


def main() -> int:
    """Run the command; the exit status is 1 when a set is missing or is not as recorded."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--check", action="store_true", help="fetch nothing")
    asked.add_argument("--clone", action="append", default=[], metavar="SOURCE=FOLDER")
    asked.add_argument("--host", default=HOST, help="where files are fetched from")
    asked.add_argument("--only", action="append", default=[], metavar="SET")
    options = asked.parse_args()
    clones = dict(pair.split("=", 1) for pair in options.clone)
    recorded = json.loads((HERE / "sets.json").read_text(encoding="utf-8"))
    unknown = set(options.only) - set(recorded)
    if unknown:
        asked.error(f"--only: got {', '.join(sorted(unknown))}, wanted some of {', '.join(recorded)}")
    sources = Sources(options.folder / "sources", clones, options.host)
    fine = True
    for name, entry in recorded.items():
        if not options.only or name in options.only:
            fine &= _one(name, entry, options.folder, sources, check=options.check)
    return 0 if fine else 1


def _one(name: str, entry: dict[str, object], folder: Path, sources: Sources, *, check: bool) -> bool:
    path = folder / str(entry["file"])
    if path.is_file():
        if hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]:
            print(f"{path.name}: the very file that the figures were made from")
            return True
        if name in BUILDERS:
            return _compared(path.name, Rows.read(path), entry)
        print(f"{path.name}: is another file than the one that the figures were made from")
        return False
    if name not in BUILDERS:
        print(f"{path.name}: is not there, and is not built by this script; source: {entry['source']}")
        return False
    if check:
        print(f"{path.name}: is not there")
        return False
    made = BUILDERS[name](sources)
    folder.mkdir(parents=True, exist_ok=True)
    write_set(path, made.rows)
    for problem in made.missing:
        print(f"{path.name}: {problem}")
    return _compared(path.name, made.rows, entry) and not made.missing


def _compared(name: str, rows: Rows, entry: dict[str, object]) -> bool:
    """Say how rows compare with what was recorded, model by model."""
    wanted = entry["models"]
    assert isinstance(wanted, dict)
    got, bad, regraded = rows.summary(), [], 0
    for model, (digest, right, count) in wanted.items():
        if model not in got or got[model][0] != digest:
            bad.append(model)
        elif abs(got[model][1] - right) > TOLERATED * count:
            bad.append(f"{model} ({got[model][1]:g} right, {right:g} wanted)")
        else:
            regraded += abs(got[model][1] - right) > 0
    exact = f"{len(wanted) - len(bad)} of {len(wanted)} models as recorded"
    print(f"{name}: {exact}{f', {regraded} of them graded slightly otherwise' if regraded else ''}")
    if bad:
        print(f"{name}: not as recorded: {', '.join(bad)}")
    return not bad


if __name__ == "__main__":
    sys.exit(main())
