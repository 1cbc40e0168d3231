"""Token ids to embedding, success and length: the only place that runs the graph.

On a CPU every query runs alone and unpadded: a CPU gains nothing from a batch and loses on padding, and with
dynamically quantised activations a query's numbers would depend on its neighbours in the batch. Several
queries run side by side on threads instead, each on one core; a single-query batch gets all cores.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from eccos_rs.errors import BundleError, DeviceError, InputError
from eccos_rs.predict import device as devices
from eccos_rs.predict.autotune import ThreadingAutotuner
from eccos_rs.predict.graph import graph_file, graph_layout, open_graph, session_options
from eccos_rs.predict.runtime import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.predict.graph import Layout

__all__ = ["CpuEncoder", "Encoder", "cpu_session", "default_variant", "open_encoder"]

# A query alone gets at most so many threads: its matrices are too small to feed more.
_MOST_ALONE = 4
# The time of a run grows with its tokens and so many more: what reading the weights takes.
_FIXED_TOKENS = 16


class Encoder(Protocol):
    """Runs the graph on some device."""

    device: str
    variant: str

    def run(self, ids: Sequence[NDArray[np.int64]]) -> Any:
        """Encode N texts given as arrays of token ids: `Encoded` or `States`, in the same order."""
        ...


class CpuEncoder:
    """The graph on the CPU.

    Parameters
    ----------
    path : Path
        The graph.
    variant : str
        Its precision.
    layout : Layout
        Of its outputs.
    weights : Path, optional
        The folder of its weight file, where that is another bundle's.
    threads : int, optional
        The most threads to use; never more than the cores this process may run on. The default is those
        cores; a query alone then runs on one where that is faster, which is measured as queries come.
    """

    device = "cpu"

    def __init__(
        self,
        path: Path,
        variant: str,
        layout: Layout,
        *,
        weights: Path | None = None,
        threads: int | None = None,
    ) -> None:
        if threads is not None and (isinstance(threads, bool) or threads < 1):
            raise InputError(f"threads: got {threads!r}, wanted 1 or more")
        self.variant, self._path, self._layout, self._weights = variant, path, layout, weights
        cores = devices.allowed_cores()
        self._threads = min(threads or cores, cores)
        self._autotuner = ThreadingAutotuner() if threads is None else None
        self._lock = threading.Lock()
        self._alone: Any = None
        self._many: Any = None
        self._pool: ThreadPoolExecutor | None = None

    def run(self, ids: Sequence[NDArray[np.int64]]) -> Any:
        """Encode N texts; see `Encoder.run`."""
        if len(ids) == 1:
            return self._layout.holds(*self._run_alone(ids[0]))
        out = self._layout.empty(len(ids))

        def put(row: int, values: Sequence[NDArray[np.float32]]) -> None:
            for held, value in zip(out, values, strict=True):
                held[row] = value[0]

        if not len(ids) or self._threads == 1:
            for row, each in enumerate(ids):
                put(row, self._run_one(self._for_many(), each))
            return self._layout.holds(*out)
        # Longest first, dealt out as threads become free: the threads end at nearly the same time.
        order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
        session, rows = self._for_many(), iter(order)
        taking = threading.Lock()

        def work() -> None:
            while True:
                with taking:
                    row = next(rows, None)
                if row is None:
                    return
                put(row, self._run_one(session, ids[row]))

        helpers = [self._workers().submit(work) for _ in range(min(self._threads, len(ids)) - 1)]
        try:
            work()
        finally:
            with taking:
                rows = iter(())  # after an error or Ctrl-C the helpers find nothing more to do
            for helper in helpers:
                helper.result()
        return self._layout.holds(*out)

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads - 1, thread_name_prefix="eccos-encode")
            return self._pool

    def _run_alone(self, ids: NDArray[np.int64]) -> Sequence[NDArray[np.float32]]:
        """Run a single-query batch over several cores, or on one where those are taken by others."""
        if self._threads == 1:
            return self._run_one(self._for_many(), ids)
        if self._autotuner is None:
            return self._run_one(self._for_one(), ids)
        way = self._autotuner.choose()
        session = self._for_many() if way else self._for_one()
        start = time.perf_counter()
        made = self._run_one(session, ids)
        self._autotuner.record(way, (time.perf_counter() - start) / (len(ids) + _FIXED_TOKENS))
        return made

    def _for_many(self) -> Any:
        """Return the session for queries side by side: one core each."""
        with self._lock:
            if self._many is None:
                self._many = self._session(1)
            return self._many

    def _for_one(self) -> Any:
        """Return the session that spreads a query over several threads."""
        with self._lock:
            if self._alone is None:
                self._alone = self._session(min(self._threads, _MOST_ALONE))
            return self._alone

    def _session(self, threads: int) -> Any:
        return cpu_session(self._path, threads, self._weights)

    def _run_one(self, session: Any, ids: NDArray[np.int64]) -> Sequence[NDArray[np.float32]]:
        """Run one text; each output has one row."""
        ids = ids[None, :]
        outputs: Sequence[NDArray[np.float32]] = session.run(
            list(self._layout.widths), {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        )
        return outputs


def cpu_session(path: Path, threads: int, weights: Path | None = None) -> Any:
    """Open a graph on the CPU."""
    ort = onnxruntime()

    options = session_options()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The graph was optimised when the bundle was made. What the runtime would do on top is harmful: it fuses
    # Add and LayerNormalization into SkipLayerNormalization, whose CPU kernel is several times slower.
    # Constants are still folded: weights stored as float16 become float32 once.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # Between operators workers spin, for waking one takes about as long as an operator; after a run they
    # sleep, for spinning ones take the cores from everybody else.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Every query has another length: remembered allocation patterns would pile up, one per shape.
    options.enable_mem_pattern = False
    try:
        return open_graph(path, options, ["CPUExecutionProvider"], weights)
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise BundleError(f"{path}: ONNX Runtime cannot open the graph: {error}") from None


def open_encoder(
    bundle: Bundle, device: str = "auto", threads: int | None = None, variant: str | None = None
) -> Encoder:
    """Open the graph of a bundle on a device.

    Parameters
    ----------
    bundle : Bundle
        A checked bundle.
    device : {"auto", "cpu", "cuda", "tensorrt"}
        ``auto`` takes CUDA when it can really be started, else the CPU.
    threads : int, optional
        See `CpuEncoder`.
    variant : str, optional
        The precision; the default is the fastest one that the device computes without loss.

    Returns
    -------
    Encoder
        Its `device` says what was taken.

    Raises
    ------
    DeviceError
        If the device that was asked for cannot be had; says what is missing and the line that installs it.
    """
    devices.check_device(device)
    obstacle = None if device == "cpu" else devices.cuda_obstacle(tensorrt=device == "tensorrt")
    if device not in ("cpu", "auto") and obstacle is not None:
        raise DeviceError(f"device={device!r} cannot be had here: {obstacle}")
    if device != "cpu" and obstacle is None:
        from eccos_rs.predict.cuda import CudaEncoder

        try:
            return CudaEncoder(bundle, tensorrt=device == "tensorrt", variant=variant)
        except DeviceError:
            if device != "auto":
                raise
    name = variant or default_variant(bundle)
    return CpuEncoder(
        graph_file(bundle, name), name, graph_layout(bundle), weights=bundle.weights_folder, threads=threads
    )


def default_variant(bundle: Bundle) -> str:
    """Return the precision for a CPU: 8-bit, where this processor computes it as it was checked."""
    table = bundle.table("encoder").get("variants", {}).get("int8")
    exact = table is not None and ("unsigned" in table or not devices.int8_saturates())
    return "int8" if exact else "float32"
