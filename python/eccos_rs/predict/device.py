"""Which processor can run the encoder here, and what is missing for a better one.

Nothing in here starts a GPU: libraries are looked for and the driver is asked, which takes milliseconds and
prints nothing. Whether CUDA really runs a graph is settled when the session is made (see `encoder`).
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eccos_rs.errors import InputError
from eccos_rs.predict.runtime import onnxruntime

__all__ = ["DEVICES", "DeviceReport", "allowed_cores", "check_device", "cuda_obstacle", "device_report"]

DEVICES = ("auto", "cpu", "cuda", "tensorrt")
INSTALL_CUDA = "pip install 'eccos-rs[cuda]'"
INSTALL_RUNTIME = "pip uninstall onnxruntime && pip install --force-reinstall onnxruntime-gpu"
# ONNX Runtime 1.31 links to TensorRT 10; the newest TensorRT is 11.
INSTALL_TENSORRT = "pip install 'tensorrt-cu13<11'"
TENSORRT_LIBRARY = "libnvinfer.so.10"

# Packages that carry the libraries which ONNX Runtime's CUDA provider links to or opens.
_PACKAGES = {
    "libcudart": "nvidia-cuda-runtime",
    "libcublasLt": "nvidia-cublas",
    "libcublas": "nvidia-cublas",
    "libcurand": "nvidia-curand",
    "libcufft": "nvidia-cufft",
    "libnvrtc": "nvidia-cuda-nvrtc",
    "libcudnn": "nvidia-cudnn-cu13",
}
# Those it links to: without one of them it cannot be loaded. The others are opened when an operator asks.
_LINKED = ("libcudart", "libcublasLt", "libcublas", "libcurand")
_VNNI = frozenset({"avx512_vnni", "avx_vnni", "avx512vnni", "asimddp"})


def check_device(device: str) -> None:
    """Refuse a device nobody knows."""
    if device not in DEVICES:
        raise InputError(f"device: got {device!r}, wanted one of {', '.join(DEVICES)}")


def allowed_cores() -> int:
    """Return the number of cores that this process may run on (its affinity mask), at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


@cache
def cpu_flags() -> frozenset[str]:
    """Return the processor's instruction sets, in lower case, as far as they can be learned."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in {"flags", "features"}:
            return frozenset(value.lower().split())
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return frozenset({"asimd", "asimddp"})  # every Apple processor of this kind has it
    try:
        from numpy._core._multiarray_umath import (  # type: ignore[import-not-found,unused-ignore]
            __cpu_features__ as features,
        )
    except ImportError:
        return frozenset()
    return frozenset(name.lower() for name, has in features.items() if has)


def has_int8_dot_products() -> bool:
    """Say whether 8-bit products are summed exactly and fast (VNNI on x86, dot product on arm)."""
    return bool(cpu_flags() & _VNNI)


def int8_saturates() -> bool:
    """Say whether a sum of products of unsigned and signed bytes loses bits here.

    It does on x86 without VNNI, where two products are added up in 16 bits.
    """
    return platform.machine().lower() in {"x86_64", "amd64"} and not has_int8_dot_products()


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Driver:
    """What NVIDIA's driver says.

    Attributes
    ----------
    cuda : str or None
        The newest CUDA it supports, such as ``"13.0"``; None without a driver.
    gpus : tuple of str
        Name and compute capability of each GPU.
    problem : str or None
        Why no GPU can be used; None when one can.
    """

    cuda: str | None
    gpus: tuple[str, ...]
    problem: str | None


@cache
def driver() -> Driver:
    """Ask NVIDIA's driver for its version and its GPUs; cheap, and silent where there is none."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        return Driver(None, (), f"no NVIDIA GPU was found: the driver's library, {name}, is not there")
    status = library.cuInit(0)
    if status != 0:
        return Driver(None, (), f"no NVIDIA GPU was found: the driver's cuInit returned {status}")
    version, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    if library.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return Driver(cuda, (), "no NVIDIA GPU was found: the driver sees none")
    return Driver(cuda, tuple(_gpu_name(library, each) for each in range(count.value)), None)


def _gpu_name(library: ctypes.CDLL, number: int) -> str:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    text = ctypes.create_string_buffer(128)
    library.cuDeviceGet(ctypes.byref(device), number)
    library.cuDeviceGetName(text, len(text), device)
    # 75 and 76 are CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
    library.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
    library.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    return f"{text.value.decode(errors='replace')} (compute capability {major.value}.{minor.value})"


def cuda_major() -> int:
    """Return the major version of CUDA that the installed ONNX Runtime was built for."""
    onnxruntime()
    from onnxruntime.capi import build_and_package_info

    major = str(getattr(build_and_package_info, "cuda_version", "") or "").partition(".")[0]
    return int(major) if major.isdigit() else 13


def _library_names() -> dict[str, str]:
    """Return the stem of each library and its file name, such as ``libcufft`` and ``libcufft.so.12``."""
    major = cuda_major()
    # These two count on their own: cuRAND stays at 10, cuFFT is one behind, cuDNN is 9.
    versions = {"libcurand": 10, "libcufft": major - 1, "libcudnn": 9}
    return {stem: f"{stem}.so.{versions.get(stem, major)}" for stem in _PACKAGES}


def missing_libraries() -> tuple[str, ...]:
    """Return the stems of the CUDA and cuDNN libraries that are not to be found.

    They are looked for in the ``nvidia`` packages and on the loader's path.
    """
    if not sys.platform.startswith("linux"):
        return ()
    packaged = packaged_libraries()
    return tuple(
        stem for stem, name in _library_names().items() if stem not in packaged and not _on_loader_path(name)
    )


def packaged_libraries() -> dict[str, Path]:
    """Return the stems of the libraries that came as ``nvidia`` packages, and their files, in loading order.

    ``onnxruntime.preload_dlls`` looks beside the runtime alone; the packages may lie in another folder of
    the interpreter's path.
    """
    folders = [folder for entry in sys.path for folder in Path(entry or ".").glob("nvidia/*/lib")]
    found = {}
    for stem, name in _library_names().items():
        here = [folder / name for folder in folders if (folder / name).exists()]
        if here:
            found[stem] = here[0]
    return found


def _on_loader_path(name: str) -> bool:
    # dlopen is the only honest answer for the system's own folders (ld.so.cache).
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def runtime_version() -> str | None:
    """Return the version of the installed ONNX Runtime with its distribution's name, or None."""
    for name in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def providers() -> tuple[str, ...]:
    """Return the execution providers that the installed ONNX Runtime was built with."""
    return tuple(onnxruntime().get_available_providers())


_WITH_A_GPU = "on a machine with one and its driver (nvidia.com/drivers) install with"


@dataclass(frozen=True)
class Obstacle:
    """Why a device cannot be had, and the line that mends it (None: no installation can)."""

    reason: str
    install: str | None
    no_gpu: bool = False

    def __str__(self) -> str:
        if self.install is None:
            return self.reason
        return f"{self.reason}; {_WITH_A_GPU if self.no_gpu else 'install with'}: {self.install}"


def cuda_obstacle(*, tensorrt: bool = False) -> Obstacle | None:
    """Return what keeps ONNX Runtime from using CUDA (or TensorRT) here; None when nothing does."""
    if driver().problem is not None:
        # The driver comes from the system (nvidia.com/drivers); what pip can do is the rest.
        return Obstacle(str(driver().problem), INSTALL_CUDA, no_gpu=True)
    if "CUDAExecutionProvider" not in providers():
        return Obstacle(f"{runtime_version() or 'this ONNX Runtime'} was built without CUDA", INSTALL_RUNTIME)
    wanted, supported = cuda_major(), driver().cuda
    if supported is not None and int(supported.partition(".")[0]) < wanted:
        return Obstacle(
            f"the NVIDIA driver supports CUDA {supported}, {runtime_version()} wants CUDA {wanted}: "
            "a newer driver is needed",
            None,
        )
    if missing := [stem for stem in missing_libraries() if stem in _LINKED]:
        names = ", ".join(_library_names()[stem] for stem in missing)
        packages = ", ".join(sorted({_PACKAGES[stem] for stem in missing}))
        return Obstacle(f"the CUDA {wanted} libraries {names} (from {packages}) are missing", INSTALL_CUDA)
    return _tensorrt_obstacle() if tensorrt else None


def _tensorrt_obstacle() -> Obstacle | None:
    if "TensorrtExecutionProvider" not in providers():
        return Obstacle("this ONNX Runtime was built without TensorRT", INSTALL_RUNTIME)
    if tensorrt_library() is None:
        return Obstacle(f"the TensorRT library {TENSORRT_LIBRARY} is missing", INSTALL_TENSORRT)
    return None


def tensorrt_library() -> str | None:
    """Return what to load so that TensorRT is there: its package's file, or a name that the loader finds."""
    for entry in sys.path:
        packaged = Path(entry or ".") / "tensorrt_libs" / TENSORRT_LIBRARY
        if packaged.exists():
            return str(packaged)
    return TENSORRT_LIBRARY if _on_loader_path(TENSORRT_LIBRARY) else None


@dataclass(frozen=True)
class DeviceReport:
    """What `device_report` found.

    Attributes
    ----------
    runtime : str or None
        ONNX Runtime's distribution and version.
    providers : tuple of str
        The execution providers it was built with.
    cpu, cores, int8 : str, int, bool
        The processor, the cores this process may use, and whether it multiplies 8-bit integers fast.
    driver_cuda : str or None
        The newest CUDA that the driver supports.
    gpus : tuple of str
        The GPUs.
    missing : tuple of str
        CUDA and cuDNN libraries that were not found.
    cuda, tensorrt : str
        ``"ready"``, or what is missing.
    install : str or None
        The line that installs what is missing; without a GPU, what a machine with one would want.
    auto : str
        What ``device="auto"`` would try first here.
    """

    runtime: str | None
    providers: tuple[str, ...]
    cpu: str
    cores: int
    int8: bool
    driver_cuda: str | None
    gpus: tuple[str, ...]
    missing: tuple[str, ...]
    cuda: str
    tensorrt: str
    install: str | None
    auto: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Return the report as rows of a name and a value, for a person."""
        kind = "8-bit integer dot products" if self.int8 else "8-bit products without dot products"
        rows = [
            ("runtime", self.runtime or "ONNX Runtime is not installed"),
            ("providers", ", ".join(self.providers) or "none"),
            ("processor", f"{self.cpu}, {self.cores} cores usable, {kind}"),
            ("driver", f"supports CUDA {self.driver_cuda}" if self.driver_cuda else "no NVIDIA driver"),
            ("GPUs", ", ".join(self.gpus) or "none"),
            ("libraries missing", ", ".join(self.missing) or "none"),
            ("CUDA", self.cuda),
            ("TensorRT", self.tensorrt),
            ("device=auto takes", self.auto),
        ]
        if self.install is None:
            return rows
        return [*rows, ("install with" if self.gpus else "with a GPU, install", self.install)]


def device_report() -> DeviceReport:
    """Look at this machine: what can run the encoder, what is missing, the line that installs it.

    Returns
    -------
    DeviceReport
        No session is made, so ``"ready"`` means that nothing known is missing.
    """
    cuda, tensorrt = cuda_obstacle(), cuda_obstacle(tensorrt=True)
    missing = tuple(_library_names()[stem] for stem in missing_libraries())
    install = cuda.install if cuda is not None else None
    return DeviceReport(
        runtime=runtime_version(),
        providers=providers(),
        cpu=cpu_name(),
        cores=allowed_cores(),
        int8=has_int8_dot_products(),
        driver_cuda=driver().cuda,
        gpus=driver().gpus,
        missing=missing,
        cuda="ready" if cuda is None else str(cuda.reason),
        tensorrt="ready" if tensorrt is None else str(tensorrt.reason),
        install=install if install is not None else (INSTALL_CUDA if missing else None),
        auto="cpu" if cuda is not None else "cuda",
    )
