"""Collects the operators and the tensors of an ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from eccos_rs.train.weights import external_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.train.weights import WeightFile

__all__ = ["IR", "MICROSOFT", "OPSET", "Writer"]

MICROSOFT = "com.microsoft"
OPSET, IR = 17, 9
# Tensors of at least this many bytes go to the weight file.
_EXTERNAL = 1024


@dataclass(eq=False)
class Writer:
    """Collects nodes and tensors."""

    store: WeightFile
    opset: int = OPSET
    nodes: list[Any] = field(default_factory=list)
    tensors: dict[str, Any] = field(default_factory=dict)

    def op(
        self, kind: str, inputs: Sequence[str], *, domain: str = "", outputs: int = 1, **attributes: Any
    ) -> Any:
        """Add a node; returns the name of its output, or the names when there are several."""
        number = len(self.nodes)
        names = [f"{kind}_{number}_{each}" for each in range(outputs)]
        self.nodes.append(
            helper.make_node(kind, list(inputs), names, name=f"{kind}_{number}", domain=domain, **attributes)
        )
        return names[0] if outputs == 1 else names

    def split(self, x: str, parts: int) -> list[str]:
        """Cut into equal parts along the last axis."""
        count: dict[str, Any] = {} if self.opset < 18 else {"num_outputs": parts}
        return list(self.op("Split", [x], outputs=parts, axis=-1, **count))

    def norm(self, x: str) -> str:
        """Add the Euclidean norm along the last axis, which stays with one entry."""
        if self.opset < 18:
            return str(self.op("ReduceL2", [x], axes=[-1], keepdims=1))
        return str(self.op("ReduceL2", [x, self.ints(-1)], keepdims=1))

    def ms(self, kind: str, inputs: Sequence[str], **attributes: Any) -> Any:
        """Add a node of ONNX Runtime's own operators."""
        return self.op(kind, inputs, domain=MICROSOFT, **attributes)

    def tensor(self, array: NDArray[Any]) -> str:
        """Add a constant; equal constants are one."""
        array = np.asarray(array, order="C")
        key = self.store.key(array)
        if key not in self.tensors:
            name = f"w{len(self.tensors)}"
            if array.nbytes >= _EXTERNAL:
                self.tensors[key] = external_tensor(name, array, self.store)
            else:
                self.tensors[key] = numpy_helper.from_array(array, name)
        return str(self.tensors[key].name)

    def number(self, value: float) -> str:
        """Add a float32 scalar."""
        return self.tensor(np.array(value, dtype=np.float32))

    def ints(self, *values: int) -> str:
        """Add a constant vector of int64."""
        return self.tensor(np.array(values, dtype=np.int64))

    def quantized(self, array: NDArray[np.float32]) -> tuple[str, str, NDArray[np.float32]]:
        """Add an int8 matrix and a scale for each of its columns; returns their names and the remainder."""
        small, scale, rest = self._rounded(array)
        return self.tensor(small), self.tensor(scale), rest

    @staticmethod
    def _rounded(
        array: NDArray[np.float32],
    ) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
        scale = np.maximum(np.abs(array).max(axis=0) / np.float32(127), np.float32(1e-12)).astype(np.float32)
        units = array / scale
        small = np.clip(np.rint(units), -127, 127)
        return small.astype(np.int8), scale, units - small

    def unsigned(self, array: NDArray[np.float32]) -> tuple[str, str]:
        """Add what `quantized` adds, 128 added to each number, as uint8; nothing more is stored for it."""
        small, scale, _ = self._rounded(array)
        # The same bytes read as uint8 are the numbers modulo 256; turning the highest bit over adds 128.
        turned = self.op(
            "BitwiseXor", [self.tensor(small.view(np.uint8)), self.tensor(np.array(128, np.uint8))]
        )
        return str(turned), self.tensor(scale)

    def weight(self, array: NDArray[np.float32]) -> str:
        """Add a float32 matrix that is stored as two int8 ones; the runtime adds them up once."""
        small, scale, rest = self.quantized(array)
        # A remainder is at most half a unit, so it fills the second byte when counted in 254ths.
        fine = self.tensor(np.clip(np.rint(rest * 254), -127, 127).astype(np.int8))
        coarse, fine = (self.op("Cast", [part], to=TensorProto.FLOAT) for part in (small, fine))
        units = self.op("Add", [coarse, self.op("Mul", [fine, self.number(1 / 254)])])
        return str(self.op("Mul", [units, scale]))
