"""A whole bundle, small enough to be made in a test: real tokeniser, graphs and index, random weights."""

from __future__ import annotations

import io
import string
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.train.weights import PredictorWeights

MODELS = ("small", "medium", "large")
WIDTH, LAYERS, HEADS, MAX_TOKENS = 32, 2, 4, 48
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *string.ascii_lowercase, *string.digits, *".,?+-*/=()"]
VOCABULARY = PIECES + [f"##{piece}" for piece in string.ascii_lowercase + string.digits] + [
    "what", "is", "the", "sum", "of", "prove", "that", "number", "prime", "word", "story", "write"
]  # fmt: skip
# Unlike chances, so that the columns cannot be mixed up unnoticed.
CHANCES = np.array([0.4, 0.6, 0.8], dtype=np.float32)


def tokenizer_json() -> bytes:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(
        models.WordPiece({piece: at for at, piece in enumerate(VOCABULARY)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer.to_str().encode()


def weights(seed: int = 0, *, hidden: bool = True) -> PredictorWeights:
    from eccos_rs.predict.features import token_feature_table
    from eccos_rs.train.weights import LayerWeights, PredictorWeights

    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 1.0) -> Any:
        return (rng.normal(size=shape) * scale).astype(np.float32)

    def layer() -> LayerWeights:
        d = WIDTH
        return LayerWeights(
            qkv=normal(d, 3 * d, scale=d**-0.5),
            qkv_bias=normal(3 * d, scale=0.1),
            output=normal(d, d, scale=d**-0.5),
            output_bias=normal(d, scale=0.1),
            norm_attention=1 + normal(d, scale=0.1),
            norm_attention_bias=normal(d, scale=0.1),
            up=normal(d, 4 * d, scale=d**-0.5),
            up_bias=normal(4 * d, scale=0.1),
            down=normal(4 * d, d, scale=(4 * d) ** -0.5),
            down_bias=normal(d, scale=0.1),
            norm_output=1 + normal(d, scale=0.1),
            norm_output_bias=normal(d, scale=0.1),
        )

    kinds = token_feature_table({piece: at for at, piece in enumerate(VOCABULARY)})
    count = 2 * WIDTH + 1 + 2 * kinds.shape[1]
    columns = 16 if hidden else count
    models = len(MODELS)
    return PredictorWeights(
        word=normal(len(VOCABULARY), WIDTH),
        position=normal(64, WIDTH, scale=0.3),
        norm=1 + normal(WIDTH, scale=0.1),
        norm_bias=normal(WIDTH, scale=0.1),
        layers=tuple(layer() for _ in range(LAYERS)),
        heads=HEADS,
        epsilon=1e-12,
        low_layer=1,
        inputs=("low", "embedding", "features"),
        token_kinds=kinds,
        mean=normal(count, scale=0.1),
        std=1 + np.abs(normal(count, scale=0.1)),
        clamp=5.0,
        hidden=normal(count, 16, scale=count**-0.5) if hidden else None,
        hidden_bias=normal(16, scale=0.1) if hidden else None,
        out=normal(columns, 3 * models, scale=columns**-0.5),
        out_bias=np.concatenate([np.zeros(models), np.full(models, 4.0), np.full(models, -1.0)]).astype("f"),
    )


def calibration_table() -> dict[str, Any]:
    ones, zeros = [1.0] * len(MODELS), [0.0] * len(MODELS)
    return {
        "success_weight": 0.5,
        "length_weight": 0.5,
        "intercept": zeros,
        "common_slope": ones,
        "deviation_slope": ones,
        "prior_logit": zeros,
        "prior_length": [4.0] * len(MODELS),
        "length_factor": ones,
        "length_std_scale": ones,
        "residual_share": [0.2] * len(MODELS),
        "fade": {},
    }


def texts(count: int, seed: int = 0) -> list[str]:
    """Return different texts of 3 to 60 words, some beyond the encoder's limit."""
    rng = np.random.default_rng(seed)
    words = VOCABULARY[-12:]
    return [
        " ".join([*rng.choice(words, size=int(rng.integers(2, 60))), str(number)]) for number in range(count)
    ]


def make_bundle(folder: Path, *, rows: int = 80, seed: int = 0, name: str | None = None) -> Bundle:
    """Write a bundle whose neighbours are the embeddings of `texts(rows)` with random labels."""
    import tomli_w

    from eccos_rs.predict.bundle import write_bundle
    from eccos_rs.predict.encoder import CpuEncoder
    from eccos_rs.predict.graph import Layout
    from eccos_rs.predict.tokenize import TextTokenizer
    from eccos_rs.train.emit import PRECISIONS, build_graph
    from eccos_rs.train.emit_search import build_search_graph
    from eccos_rs.train.optimize import GRAPH_FILES, WEIGHT_FILE
    from eccos_rs.train.weights import WeightFile

    given = weights(seed)
    store = WeightFile(WEIGHT_FILE)
    files: dict[str, bytes | Path] = {
        GRAPH_FILES[each]: build_graph(given, each, store).SerializeToString() for each in PRECISIONS
    }
    files[store.name] = store.tobytes()
    files["neighbours.onnx"] = build_search_graph().SerializeToString()
    files["tokenizer.json"] = tokenizer_json()
    scratch = folder.parent / f"{folder.name}-parts"
    scratch.mkdir(parents=True)
    for part, content in files.items():
        (scratch / part).write_bytes(content)
    ids = TextTokenizer(scratch / "tokenizer.json", MAX_TOKENS)(texts(rows, seed)).ids
    encoder = CpuEncoder(
        scratch / "predictor.onnx", "float32", Layout.of_heads(WIDTH, len(MODELS)), threads=1
    )
    embedding = encoder.run(ids).embedding

    index = vectors_file(scratch, embedding)
    rng = np.random.default_rng(seed)
    labels = io.BytesIO()
    success = (rng.random((rows, len(MODELS))) < CHANCES).astype(np.float16)
    np.savez(labels, success=success, log_tokens=rng.normal(5, 1, size=success.shape).astype(np.float16))
    kinds = {kind: calibration_table() for kind in ("trained", "retrieval", "hybrid")}
    prices = [
        {"name": model, "input_price": 0.1 * 4**at, "output_price": 0.4 * 4**at}
        for at, model in enumerate(MODELS)
    ]
    files |= {
        index.name: index,
        "labels.npz": labels.getvalue(),
        "calibration.toml": tomli_w.dumps(kinds).encode(),
        "pool.toml": tomli_w.dumps({"schema_version": 1, "model": prices}).encode(),
    }
    return write_bundle(folder, manifest(name or folder.name, rows, index.name), files)


def vectors_file(folder: Path, vectors: Any) -> Path:
    """Save vectors as a graph of hnswlib, or alone where that is not installed."""
    try:
        import hnswlib
    except ImportError:
        np.save(folder / "vectors.npy", vectors)
        return folder / "vectors.npy"
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=100)
    index.add_items(vectors, np.arange(len(vectors)), num_threads=1)
    index.save_index(str(folder / "index.bin"))
    return folder / "index.bin"


def manifest(name: str, rows: int, index: str = "index.bin") -> dict[str, Any]:
    return {
        "name": name,
        "created": "2026-01-01T00:00:00Z",
        "models": list(MODELS),
        "encoder": {
            "file": "predictor.onnx",
            "weights": "weights.bin",
            "search": "neighbours.onnx",
            "tokenizer": "tokenizer.json",
            "max_tokens": MAX_TOKENS,
            "dimension": WIDTH,
            "variants": {
                "int8": {"file": "predictor.int8.onnx", "unsigned": "predictor.uint8.onnx"},
                "float16": {"file": "predictor.float16.onnx"},
            },
        },
        "retrieval": {
            "index": index,
            "labels": "labels.npz",
            "rows": rows,
            "neighbours": 16,
            "temperature": 0.1,
            "prior_rows": 2.0,
            "ef": 100,
            "m": 16,
        },
        "calibration": {"file": "calibration.toml"},
        "input_tokens": {"intercept": 1.0, "per_piece": 1.1, "per_character": 0.0},
        "provenance": {},
    }
