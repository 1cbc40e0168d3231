"""Neighbours on the GPU: every vector is compared there, and only sums of labels come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.predict.runtime import onnxruntime

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from eccos_rs.predict.neighbours import NeighbourSettings

__all__ = ["DeviceSearch"]


class DeviceSearch:
    """Searches vectors that lie on a device and adds up the labels of the nearest.

    Parameters
    ----------
    path : Path
        The graph of the search.
    chain : list
        Execution providers with their options, best first.
    settings : NeighbourSettings
        How many neighbours, and how sharply they are weighed.
    device : {"cuda", "cpu"}
        Where the vectors shall lie.

    Raises
    ------
    DeviceError
        If the first provider does not start.
    """

    def __init__(self, path: Path, chain: list[Any], settings: NeighbourSettings, device: str) -> None:
        ort = onnxruntime()

        from eccos_rs.predict.cuda import start_session

        self._session = start_session(path, chain)
        self._device = device
        self._neighbours = settings.neighbours
        temperature = np.array(settings.temperature, dtype=np.float32)
        self._temperature = ort.OrtValue.ortvalue_from_numpy(temperature, device, 0)
        self._held: dict[str, Any] = {}

    def hold(self, vectors: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Copy vectors (n, D) and packed labels (n, C) to the device, in place of what is there."""
        ort = onnxruntime()

        for name, array in (("vectors", vectors), ("labels", labels)):
            whole = np.ascontiguousarray(array)
            self._held[name] = ort.OrtValue.ortvalue_from_numpy(whole, self._device, 0)
        # TopK reads its size on the host.
        k = np.array([min(self._neighbours, len(vectors))], dtype=np.int64)
        self._held["neighbours"] = ort.OrtValue.ortvalue_from_numpy(k, "cpu", 0)

    def sums(self, embedding: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the weighted sums of the neighbours' labels (N, C) and the best similarity (N,)."""
        ort = onnxruntime()

        binding = self._session.io_binding()
        asked = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(embedding), self._device, 0)
        for name, value in {**self._held, "embedding": asked, "temperature": self._temperature}.items():
            binding.bind_ortvalue_input(name, value)
        for name in ("sums", "best"):
            binding.bind_output(name, self._device, 0)
        self._session.run_with_iobinding(binding)
        sums, best = binding.copy_outputs_to_cpu()
        return sums, best[:, 0]
