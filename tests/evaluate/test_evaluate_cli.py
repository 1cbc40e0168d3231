"""`eccos evaluate` from end to end on a small generated data set, with a router trained for it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from eccos_rs.cli.main import main
from eccos_rs.errors import RecordError
from eccos_rs.evaluate import evidence_from_bundle, evidence_from_folds
from eccos_rs.evaluate.bundles import seen_rows
from eccos_rs.evaluate.forecasters import trained_texts
from eccos_rs.evaluate.training import train_folds
from eccos_rs.predict.bundle import Bundle
from eccos_rs.records import RecordTable, normalise, write_records
from eccos_rs.records.fingerprint import decode_fingerprints, encode_fingerprints, fingerprint, was_seen
from eccos_rs.train.options import TrainOptions
from tests.helpers.evaluation import world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Training and a study on a busy machine of two cores.
pytestmark = pytest.mark.timeout(400)

ROWS = 160
WORDS = ["river", "stone", "engine", "garden", "copper", "winter", "letter", "market", "signal", "island"]


@contextmanager
def silent(label: str, total: int) -> Iterator[Callable[[int], object]]:
    yield lambda steps: None


class Made(NamedTuple):
    """What the command left behind."""

    data: Path
    out: Path
    docs: Path
    printed: dict[str, object]


def dataset() -> RecordTable:
    """Make queries of distinct words; two questions stand there twice, once with other punctuation."""
    table = world(ROWS, 5)[0]
    rng = np.random.default_rng(5)
    texts = [f"Say {row}: " + " ".join(rng.choice(WORDS, 9)) + f" {row * 7919}?" for row in range(ROWS)]
    texts[40], texts[41] = texts[10], f"  {texts[11].upper()} !"
    table.query[:] = texts
    return table


def call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    pytest.importorskip("torch", reason="training needs torch (the extra `train`)")
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("evaluate")
    data, out, docs = folder / "small.jsonl", folder / "out", folder / "docs"
    write_records(data, dataset().records())
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), pytest.raises(SystemExit) as ended:
        main([
            "evaluate", str(data), "--train-fraction", "0.6", "--out", str(out), "--docs", str(docs),
            "--json", "--resamples", "20", "-s", "none:random:all", "-s", "equal/3:random:all",
            "--device", "cpu", "--threads", "1",
        ])  # fmt: skip
    assert ended.value.code in (0, None)
    return Made(data, out, docs, json.loads(stream.getvalue()))


def test_everything_is_written(made: Made) -> None:
    assert {path.name for path in made.out.iterdir()} >= {
        "bundle", "report.html", "results.json", "results.md", "curves.png", "reliability.png",
    }  # fmt: skip
    assert json.loads((made.out / "results.json").read_text()) == made.printed
    text = (made.docs / "results.md").read_text()
    assert "(img/results-curves.png)" in text
    assert (made.docs / "img" / "results-curves.png").is_file()


def test_no_query_is_judged_that_was_trained_on(made: Made) -> None:
    table, bundle = RecordTable.read(made.data), Bundle.load(made.out / "bundle")
    name = bundle.table("provenance")["train_texts_sha256"]
    learned = set(decode_fingerprints(bundle.file(name).read_bytes()))
    seen = seen_rows(table, bundle)
    assert seen is not None
    # The same question in other dress falls on the same side.
    assert seen[10] == seen[40]
    assert seen[11] == seen[41]
    judged = [text for text, known in zip(table.query, seen.tolist(), strict=True) if not known]
    assert len(judged) == made.printed["about"]["judged"]  # type: ignore[index]
    assert not {fingerprint(text) for text in judged} & learned
    assert len({normalise(text) for text in table.query}) == len(
        learned | {fingerprint(text) for text in judged}
    )


def test_a_bundle_is_judged_on_what_it_has_not_seen(made: Made) -> None:
    table, bundle = RecordTable.read(made.data), Bundle.load(made.out / "bundle")
    found = evidence_from_bundle(table, bundle, data="small", device="cpu", threads=1)
    assert len(found.test_set.table) == made.printed["about"]["judged"]  # type: ignore[index]
    assert set(found.predictions) == {"raw kNN16", "retrieval", "trained", "hybrid", "raw hybrid"}
    assert not {normalise(text) for text in found.test_set.table.query} & {
        normalise(text) for text in found.fits[0].query
    }
    raw = found.predictions["raw kNN16"].quality * 16
    assert np.allclose(raw, np.rint(raw), atol=1e-3)
    trained = np.flatnonzero(seen_rows(table, bundle))
    with pytest.raises(RecordError, match="0 are left to judge"):
        evidence_from_bundle(table.select(trained), bundle, data="small", device="cpu", threads=1)


def test_with_folds_every_query_is_judged_by_a_router_that_never_saw_it() -> None:
    pytest.importorskip("torch", reason="training needs torch (the extra `train`)")
    table = dataset()
    options = TrainOptions(
        holdout=0.0, epochs=1, folds=2, members=1, hidden=8, kernel_share=0.0, max_tokens=32, check_rows=5
    )
    seen: list[np.ndarray] = []

    def trained() -> Iterator[tuple[Bundle, np.ndarray]]:
        for bundle, rows in train_folds(table, 2, progress=silent, options=options):
            learned = set(trained_texts(bundle) or ())
            judged = [text for text, known in zip(table.query, rows.tolist(), strict=True) if not known]
            assert not {fingerprint(text) for text in judged} & learned
            seen.append(rows)
            yield bundle, rows

    found = evidence_from_folds(table, trained(), data="small", device="cpu", threads=1)
    assert (seen[0] ^ seen[1]).all()
    assert seen[0][10] == seen[0][40]
    assert sorted(found.test_set.table.query) == sorted(table.query)
    assert [len(part) for part in found.test_set.parts] == [int((~rows).sum()) for rows in seen]
    for part, fit in zip(found.test_set.parts, found.fits, strict=True):
        judged = {normalise(found.test_set.table.query[row]) for row in part.tolist()}
        assert not judged & {normalise(text) for text in fit.query}
    assert all(
        predictions.quality.shape == found.test_set.table.quality.shape
        for predictions in found.predictions.values()
    )
    assert "2 routers" in found.about["predictor"]


def test_one_bad_line_is_one_sentence(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = str(made.out / "bundle")
    other = tmp_path / "other.jsonl"
    write_records(other, world(60, 1)[0].select_models(["small"]).records())
    cases = {
        "wanted at least two": [str(other), "-b", bundle],
        "no bundle 'nowhere'": [str(made.data), "-b", "nowhere"],
        "limit: got 'half'": [str(made.data), "-b", bundle, "-s", "half"],
        "wanted package.module:Class": [str(made.data), "-b", bundle, "--method", "nothing:here"],
        "wanted a name, fit": [str(made.data), "-b", bundle, "--method", "collections:OrderedDict"],
        "gone.jsonl": [str(tmp_path / "gone.jsonl")],
    }
    for sentence, arguments in cases.items():
        status, out, err = call(arguments, capsys)
        # What was typed wrong is bad usage; a file or a bundle that cannot be read is a failure.
        assert (status, out) == (2 if "-s" in arguments or "--method" in arguments else 1, ""), err
        assert sentence in err
        assert len(err.splitlines()) == 1


def test_bad_usage(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["--train-fraction", "1.5"],
        ["--train-fraction", "0.5", "-b", "x"],
        ["--folds", "1"],
        ["--folds", "5", "--train-fraction", "0.5"],
        ["--resamples", "0"],
    ):
        assert call([str(made.data), *arguments], capsys)[0] == 2
    assert call(["--help"], capsys)[0] == 0


def test_fingerprints() -> None:
    data = encode_fingerprints(["One?", "two", "one"])
    known = decode_fingerprints(data)
    assert known == [fingerprint(text) for text in ("One", "TWO", "one!")]
    assert was_seen(["ONE!", "three", "Two"], known).tolist() == [True, False, True]
    with pytest.raises(RecordError, match="line 2: got 'xyz'"):
        decode_fingerprints(data.splitlines(keepends=True)[0] + b"xyz\n")


def test_real_data_are_split_without_a_leak(data_dir: Path) -> None:
    """On the public data: no text, in any dress, on both sides of the split that `make results` uses."""
    from eccos_rs.records import require_disjoint, split_by_text

    table = RecordTable.read(data_dir / "qaserve_public.parquet")
    learned, judged = split_by_text(table, [0.8, 0.2], 0)
    require_disjoint(table.select(learned), table.select(judged))
