"""The graph on an NVIDIA GPU: bound buffers, float16 where it passed its check, recorded small batches.

A GPU wants many tokens at once: queries are sorted by length, packed into slices under a token budget and
padded to the longest of their slice. A small batch is padded to one of a few fixed shapes instead, whose
kernel launches were recorded once (a CUDA graph) and are replayed.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import DeviceError
from eccos_rs.predict import device as devices
from eccos_rs.predict.graph import graph_file, graph_layout, open_graph, session_options, variants
from eccos_rs.predict.runtime import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eccos_rs.predict.bundle import Bundle

__all__ = ["CudaEncoder", "provider_list", "slices_by_length", "start_session"]

# Where inputs and outputs lie.
MEMORY = "cuda"
# Padded tokens of one slice: large enough to fill the GPU, small enough that activations stay within 1 GB.
TOKEN_BUDGET = 32_768
# Shapes (queries, tokens) whose launches are recorded.
GRAPH_QUERIES = (1, 4, 16)
GRAPH_TOKENS = (32, 64, 128, 256)
# Padding a slice to a multiple of this keeps the tensor cores' tiles full.
_TILE = 8


def provider_list(*, tensorrt: bool, cuda_graph: bool, cache: Path | None = None) -> list[Any]:
    """Return the execution providers with their options, best first.

    Parameters
    ----------
    tensorrt : bool
        Ask TensorRT first; what it does not take falls to CUDA.
    cuda_graph : bool
        Record and replay launches; the shapes and the buffers must then stay fixed.
    cache : Path, optional
        Where TensorRT keeps its engines.
    """
    cuda = {
        "device_id": 0,
        # Grow by what is asked for: the default doubles, and another process may want the memory.
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
        "use_tf32": "1",
        "enable_cuda_graph": "1" if cuda_graph else "0",
    }
    chain: list[Any] = [("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]
    if tensorrt:
        options = {"device_id": 0, "trt_fp16_enable": "1"}
        if cache is not None:
            options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)}
        chain.insert(0, ("TensorrtExecutionProvider", options))
    return chain


def slices_by_length(lengths: Sequence[int], budget: int = TOKEN_BUDGET) -> Iterator[NDArray[np.intp]]:
    """Cut a batch into slices of like lengths.

    Parameters
    ----------
    lengths : sequence of N int
        Tokens of each query.
    budget : int
        The most padded tokens of a slice; a single query may exceed it.

    Yields
    ------
    ndarray of intp
        Rows of one slice, longest first; every row comes once.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        longest = _round_up(int(lengths[order[start]]))
        count = max(1, budget // longest)
        yield order[start : start + count]
        start += count


def _round_up(tokens: int) -> int:
    return -(-tokens // _TILE) * _TILE


def pad(ids: Sequence[NDArray[np.int64]], shape: tuple[int, int]) -> tuple[NDArray[np.int64], ...]:
    """Return ids and mask of a shape (queries, tokens); an empty row has one token: none divides by 0."""
    padded = np.zeros(shape, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    mask[len(ids) :, 0] = 1
    for row, each in enumerate(ids):
        padded[row, : len(each)] = each
        mask[row, : len(each)] = 1
    return padded, mask


@dataclass(eq=False)
class _Recorded:
    """One fixed shape: buffers on the GPU that its recorded launches read and write."""

    options: Any
    inputs: dict[str, Any]
    binding: Any


class CudaEncoder:
    """The graph on the first GPU.

    Parameters
    ----------
    bundle : Bundle
        Where the graph lies.
    tensorrt : bool
        Ask TensorRT first.
    variant : str, optional
        The precision.

    Raises
    ------
    DeviceError
        If ONNX Runtime does not really start the provider.

    Attributes
    ----------
    not_recorded : str or None
        Why no launches were recorded, where that was tried and failed.
    """

    def __init__(self, bundle: Bundle, *, tensorrt: bool = False, variant: str | None = None) -> None:
        self.device = "tensorrt" if tensorrt else "cuda"
        self.variant = variant or gpu_variant(bundle, tensorrt=tensorrt)
        path = graph_file(bundle, self.variant)
        self._layout, self._weights = graph_layout(bundle), bundle.weights_folder
        self._longest = int(bundle.table("encoder")["max_tokens"])
        _load_libraries(tensorrt=tensorrt)
        self._session = start_session(path, provider_list(tensorrt=tensorrt, cuda_graph=False), self._weights)
        self._lock = threading.Lock()
        self._recorded: dict[tuple[int, int], _Recorded] = {}
        self.not_recorded: str | None = None
        self._replayed = self._record_session(path) if not tensorrt else None
        self._warm_up()

    def run(self, ids: Sequence[NDArray[np.int64]]) -> Any:
        """Encode N texts; see `Encoder.run`."""
        out = self._layout.empty(len(ids))
        with self._lock:
            for rows in slices_by_length([len(each) for each in ids]):
                part = [ids[row] for row in rows]
                shape = self._recorded_shape(part)
                made = self._run_bound(part) if shape is None else self._replay(part, shape)
                for held, values in zip(out, made, strict=True):
                    held[rows] = values
        return self._layout.holds(*out)

    def _recorded_shape(self, ids: Sequence[NDArray[np.int64]]) -> tuple[int, int] | None:
        fitting = (each for each in self._recorded if each[0] >= len(ids) and each[1] >= len(ids[0]))
        return min(fitting, key=lambda each: each[0] * each[1], default=None)

    def _run_bound(self, ids: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """Run one slice with its inputs and outputs bound to the GPU."""
        ort = onnxruntime()

        arrays = pad(ids, (len(ids), _round_up(len(ids[0]))))
        binding = self._session.io_binding()
        for name, array in zip(("input_ids", "attention_mask"), arrays, strict=True):
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, MEMORY, 0))
        for name in self._layout.widths:
            binding.bind_output(name, MEMORY, 0)
        self._session.run_with_iobinding(binding)
        return list(binding.copy_outputs_to_cpu())

    def _replay(self, ids: Sequence[NDArray[np.int64]], shape: tuple[int, int]) -> list[NDArray[np.float32]]:
        recorded = self._recorded[shape]
        for value, array in zip(recorded.inputs.values(), pad(ids, shape), strict=True):
            value.update_inplace(array)
        self._replayed.run_with_iobinding(recorded.binding, recorded.options)  # type: ignore[union-attr]
        return [output[: len(ids)] for output in recorded.binding.copy_outputs_to_cpu()]

    def _record_session(self, path: Path) -> Any:
        """Open a second session that records; None where the runtime or the GPU cannot."""
        try:
            session = start_session(path, provider_list(tensorrt=False, cuda_graph=True), self._weights)
            shapes = [(queries, tokens) for queries in GRAPH_QUERIES for tokens in self._graph_tokens()]
            recorded = {}
            for number, shape in enumerate(shapes, start=1):
                recorded[shape] = _record(session, shape, number, self._layout.widths)
        except Exception as error:  # recording is a shortcut: without it the plain session serves every shape
            self.not_recorded = str(error)
            return None
        self._recorded = recorded
        return session

    def _graph_tokens(self) -> list[int]:
        return sorted({min(tokens, _round_up(self._longest)) for tokens in GRAPH_TOKENS})

    def _warm_up(self) -> None:
        """Run once at a usual shape, so that kernels and memory are there before the first query."""
        ids = np.ones(min(64, self._longest), dtype=np.int64)
        try:
            self._run_bound([ids] * 16)
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise DeviceError(f"the GPU does not run the graph: {error}") from None


def _record(session: Any, shape: tuple[int, int], number: int, widths: Mapping[str, int]) -> _Recorded:
    """Bind fixed buffers for a shape and run it often enough to be recorded."""
    ort = onnxruntime()

    binding = session.io_binding()
    inputs = {}
    arrays = pad([np.ones(shape[1], dtype=np.int64)] * shape[0], shape)
    for name, array in zip(("input_ids", "attention_mask"), arrays, strict=True):
        inputs[name] = ort.OrtValue.ortvalue_from_numpy(array, MEMORY, 0)
        binding.bind_ortvalue_input(name, inputs[name])
    for name, width in widths.items():
        buffer = ort.OrtValue.ortvalue_from_shape_and_type((shape[0], width), np.float32, MEMORY, 0)
        binding.bind_ortvalue_output(name, buffer)
    options = _graph_number(number)
    # The first run takes memory, which a recording must not; the second is recorded, the third replays it.
    for _ in range(3):
        session.run_with_iobinding(binding, options)
    return _Recorded(options, inputs, binding)


def _graph_number(number: int) -> Any:
    """Return run options that name the recording to replay."""
    ort = onnxruntime()

    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number))
    return options


def _load_libraries(*, tensorrt: bool) -> None:
    """Load the CUDA libraries that came as packages; what the runtime prints while it looks is swallowed."""
    ort = onnxruntime()

    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(OSError, RuntimeError):
            ort.preload_dlls()
    for path in devices.packaged_libraries().values():
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(path))
    if tensorrt and (library := devices.tensorrt_library()) is not None:
        with contextlib.suppress(OSError):
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)


def start_session(path: Path, chain: list[Any], weights: Path | None = None) -> Any:
    """Open a session and make sure that it runs on the first provider of the chain."""
    ort = onnxruntime()

    wanted = chain[0][0] if isinstance(chain[0], tuple) else chain[0]
    # The runtime reports a provider it cannot load on standard error too. 2, warnings, is its default.
    ort.set_default_logger_severity(4)
    try:
        session = open_graph(path, session_options(), chain, weights)
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise DeviceError(f"ONNX Runtime could not start {wanted}: {error}") from None
    finally:
        ort.set_default_logger_severity(2)
    if session.get_providers()[0] != wanted:
        obstacle = devices.cuda_obstacle(tensorrt=wanted.startswith("Tensorrt"))
        why = f": {obstacle}" if obstacle else f"; it took {session.get_providers()[0]}"
        raise DeviceError(f"ONNX Runtime did not start {wanted}{why}")
    return session


def gpu_variant(bundle: Bundle, *, tensorrt: bool = False) -> str:
    """Choose the precision for a GPU: float16 where it passed its check, else float32.

    TensorRT gets the float32 graph, which is made of standard operators alone, and lowers it by itself.
    """
    return "float16" if "float16" in variants(bundle) and not tensorrt else "float32"
