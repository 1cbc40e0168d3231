"""The trained numbers as plain arrays, and the one file that the shipped graphs share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from eccos_rs.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from eccos_rs.train.encoder import SentenceEncoder
    from eccos_rs.train.heads import HeadWeights, Standardise
    from eccos_rs.train.kernel import KernelHead

    Floats = NDArray[np.float32]

__all__ = ["LayerWeights", "PredictorWeights", "WeightFile", "external_tensor", "predictor_weights"]

INPUTS = ("embedding", "low", "last", "features")
# Where a tensor begins in the file: at a page, so that the runtime can map it instead of reading it.
_PAGE = 4096


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """One BERT layer of width D; matrices are (inputs, outputs).

    Attributes
    ----------
    qkv, qkv_bias : ndarray, shapes (D, 3 D) and (3 D,)
        Query, key and value side by side.
    output, output_bias, up, up_bias, down, down_bias : ndarray
        The other linear layers.
    norm_attention, norm_attention_bias, norm_output, norm_output_bias : ndarray, shape (D,)
    """

    qkv: Floats
    qkv_bias: Floats
    output: Floats
    output_bias: Floats
    norm_attention: Floats
    norm_attention_bias: Floats
    up: Floats
    up_bias: Floats
    down: Floats
    down_bias: Floats
    norm_output: Floats
    norm_output_bias: Floats


@dataclass(frozen=True, eq=False)
class PredictorWeights:
    """Encoder, features and heads of a predictor for M models.

    Attributes
    ----------
    word, position : ndarray, shapes (V, D) and (P, D)
        Embeddings; the one segment's is part of the positions.
    norm, norm_bias : ndarray, shape (D,)
        Of the embeddings.
    layers : tuple of LayerWeights
    heads : int
        Attention heads.
    epsilon : float
        Of every layer normalisation.
    low_layer : int
        The layer, counted from 1, whose mean over tokens is the input ``low``; 0 for none.
    inputs : tuple of str
        What the heads read, in this order: of ``embedding`` (unit norm), ``low``, ``last`` (means over
        tokens) and ``features``.
    token_kinds : ndarray, shape (V, K), or None
        0 or 1: the kinds each word piece belongs to; see `eccos_rs.predict.features`.
    mean, std, clamp : ndarray (I,), ndarray (I,), float
        The inputs are standardised and cut to +-clamp.
    hidden, hidden_bias : ndarray, shapes (I, H) and (H,), or None
        Hidden layer with the exact GELU.
    out, out_bias : ndarray, shapes (H or I, 3 M) and (3 M,)
        M log odds, M means and M log variances of ln(1 + tokens).
    projection : ndarray, shape (I, E), or None
        The embedding that is searched by is x projection, brought to unit norm, x being the standardised
        inputs; None keeps the mean of the last layer, of unit norm.
    kernel : KernelHead or None
        Averaged with the heads; it compares by a projection of its own.
    length_shift : ndarray, shape (M,), or None
        Added to the mean of ln(1 + tokens): what makes up for a coarser precision.
    """

    word: Floats
    position: Floats
    norm: Floats
    norm_bias: Floats
    layers: tuple[LayerWeights, ...]
    heads: int
    epsilon: float
    low_layer: int
    inputs: tuple[str, ...]
    token_kinds: Floats | None
    mean: Floats
    std: Floats
    clamp: float
    hidden: Floats | None
    hidden_bias: Floats | None
    out: Floats
    out_bias: Floats
    projection: Floats | None = None
    kernel: KernelHead | None = None
    length_shift: Floats | None = None

    @property
    def dimension(self) -> int:
        """Length of the embedding that is searched by."""
        return int((self.word if self.projection is None else self.projection).shape[1])

    def __post_init__(self) -> None:
        unknown = [name for name in self.inputs if name not in INPUTS]
        if unknown or not self.inputs:
            raise InputError(f"inputs: got {self.inputs}, wanted some of {INPUTS}")
        if ("features" in self.inputs) != (self.token_kinds is not None):
            raise InputError("token_kinds: wanted exactly when features are among the inputs")
        if not 0 <= self.low_layer <= len(self.layers) or ("low" in self.inputs) != (self.low_layer > 0):
            raise InputError(f"low_layer: got {self.low_layer}, wanted a layer exactly when low is an input")
        width = self.word.shape[1]
        kinds = 0 if self.token_kinds is None else 1 + 2 * self.token_kinds.shape[1]
        got = sum(kinds if name == "features" else width for name in self.inputs)
        if self.mean.shape != (got,) or self.std.shape != (got,):
            raise InputError(
                f"mean, std: got {self.mean.shape}, wanted ({got},) for the inputs {self.inputs}"
            )


def encoder_arrays(state: Mapping[str, NDArray[np.floating[Any]]]) -> dict[str, Any]:
    """Take the encoder's part of `PredictorWeights` from the state of a `SentenceEncoder`.

    Parameters
    ----------
    state : mapping of str to ndarray
        Named as in torch: ``word.weight``, ``layers.0.query.weight`` and so on, matrices (outputs, inputs).

    Returns
    -------
    dict
        ``word``, ``position``, ``norm``, ``norm_bias`` and ``layers``.
    """

    def of(name: str, part: str = "weight") -> Floats:
        return np.asarray(state[f"{name}.{part}"], dtype=np.float32)

    def layer(number: int) -> LayerWeights:
        at = f"layers.{number}"
        three = ("query", "key", "value")
        values = {
            "qkv": np.concatenate([of(f"{at}.{each}").T for each in three], axis=1),
            "qkv_bias": np.concatenate([of(f"{at}.{each}", "bias") for each in three]),
        }
        for name in ("output", "up", "down", "norm_attention", "norm_output"):
            values[name] = of(f"{at}.{name}").T
            values[f"{name}_bias"] = of(f"{at}.{name}", "bias")
        return LayerWeights(**{each.name: values[each.name] for each in fields(LayerWeights)})

    count = sum(name.endswith(".query.weight") for name in state)
    return {
        "word": of("word"),
        "position": of("position"),
        "norm": of("norm"),
        "norm_bias": of("norm", "bias"),
        "layers": tuple(layer(number) for number in range(count)),
    }


def predictor_weights(
    encoder: SentenceEncoder,
    token_kinds: Floats,
    standardise: Standardise,
    heads: HeadWeights,
    projection: Floats | None = None,
) -> PredictorWeights:
    """Lay out what was trained.

    Parameters
    ----------
    encoder : SentenceEncoder
        On any device.
    token_kinds : ndarray, shape (V, K)
        From `eccos_rs.predict.features.token_feature_table`.
    standardise, heads : Standardise, HeadWeights
        Over the inputs ``low``, ``embedding``, ``features`` side by side.
    projection : ndarray, shape (I, E), optional
        See `PredictorWeights`.

    Returns
    -------
    PredictorWeights
    """
    from eccos_rs.train import encoder as encoders
    from eccos_rs.train.heads import CLAMP

    state = {name: tensor.detach().cpu().numpy() for name, tensor in encoder.state_dict().items()}
    return PredictorWeights(
        **encoder_arrays(state),
        heads=encoders.HEADS,
        epsilon=encoders.EPSILON,
        low_layer=encoder.low,
        inputs=("low", "embedding", "features"),
        token_kinds=token_kinds,
        mean=standardise.mean,
        std=standardise.std,
        clamp=CLAMP,
        hidden=heads.hidden,
        hidden_bias=heads.hidden_bias,
        out=heads.out,
        out_bias=heads.out_bias,
        projection=projection,
        kernel=heads.kernel,
    )


class WeightFile:
    """Tensors one after another, each stored once however many graphs use it.

    Parameters
    ----------
    name : str
        Its file name; the graphs beside it refer to it by that.
    """

    def __init__(self, name: str = "weights.bin") -> None:
        self.name = name
        self._pieces: list[bytes] = []
        self._size = 0
        self._place: dict[str, tuple[int, int]] = {}

    @staticmethod
    def key(array: NDArray[Any]) -> str:
        """Return what equal tensors have in common."""
        return f"{array.dtype.str} {array.shape} {sha256(array.tobytes()).hexdigest()}"

    def put(self, array: NDArray[Any]) -> tuple[int, int]:
        """Store a tensor; returns its offset and its length in bytes."""
        data = array.tobytes()
        key = sha256(data).hexdigest()  # of whatever type: the same bytes serve as int8 and as uint8
        if key not in self._place:
            gap = -self._size % _PAGE
            self._pieces += [bytes(gap), data]
            self._place[key] = (self._size + gap, len(data))
            self._size += gap + len(data)
        return self._place[key]

    def tobytes(self) -> bytes:
        """Return the content of the file."""
        return b"".join(self._pieces)


def external_tensor(name: str, array: NDArray[Any], store: WeightFile) -> Any:
    """Return an ONNX tensor whose data lies in `store`."""
    offset, length = store.put(array)
    tensor = TensorProto()
    tensor.name = name
    tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.dims.extend(array.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", store.name), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor
