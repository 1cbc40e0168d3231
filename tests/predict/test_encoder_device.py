"""The device rule: never a silent CPU run, always the line that installs what is missing."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from eccos_rs.errors import DeviceError
from eccos_rs.predict import cuda
from eccos_rs.predict import device as devices
from eccos_rs.predict.cuda import TOKEN_BUDGET, gpu_variant, pad, provider_list, slices_by_length
from eccos_rs.predict.open import open_predictor
from tests.helpers import tiny

if TYPE_CHECKING:
    from eccos_rs.predict.bundle import Bundle

pytest.importorskip("onnx")

without_gpu = pytest.mark.skipif(devices.driver().problem is None, reason="this machine has a GPU")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny.make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def with_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with a GPU and its driver; what the driver says is all that is made up."""
    found = devices.Driver("13.0", ("NVIDIA H200 (compute capability 9.0)",), None)
    monkeypatch.setattr(devices, "driver", lambda: found)


@without_gpu
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_that_is_not_there_is_an_error(bundle: Bundle, device: str) -> None:
    with pytest.raises(
        DeviceError, match=f"device='{device}' cannot be had here: .*(driver|GPU).*pip install"
    ):
        open_predictor(bundle, device=device)


@without_gpu
def test_auto_takes_the_cpu_and_says_so(bundle: Bundle) -> None:
    assert open_predictor(bundle, device="auto").device == "cpu"


@without_gpu
def test_a_provider_that_does_not_start_is_never_a_silent_cpu_run(
    bundle: Bundle, with_driver: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All looks ready, yet ONNX Runtime falls back: asked for, an error; on auto, the CPU, said openly."""
    monkeypatch.setattr(devices, "missing_libraries", lambda: ())
    with pytest.raises(DeviceError, match="CUDAExecutionProvider"):
        open_predictor(bundle, device="cuda")
    assert open_predictor(bundle, device="auto").device == "cpu"


def test_missing_libraries_name_the_line_that_installs_them(
    bundle: Bundle, with_driver: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "missing_libraries", lambda: ("libcublasLt", "libcurand", "libcudnn"))
    with pytest.raises(
        DeviceError, match=r"libcublasLt\.so\.13, libcurand\.so\.10 .*pip install 'eccos-rs\[cuda\]'"
    ):
        open_predictor(bundle, device="cuda")
    report = devices.device_report()
    assert report.missing == ("libcublasLt.so.13", "libcurand.so.10", "libcudnn.so.9")
    assert report.install == "pip install 'eccos-rs[cuda]'"
    assert report.auto == "cpu"
    assert ("install with", report.install) in report.lines()


def test_what_is_opened_only_on_demand_is_no_obstacle(
    with_driver: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "missing_libraries", lambda: ("libcufft", "libnvrtc"))
    monkeypatch.setattr(devices, "providers", lambda: ("CUDAExecutionProvider", "CPUExecutionProvider"))
    assert devices.cuda_obstacle() is None
    assert devices.device_report().auto == "cuda"


def test_a_runtime_without_cuda_and_an_old_driver(with_driver: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "missing_libraries", lambda: ())
    monkeypatch.setattr(devices, "providers", lambda: ("CPUExecutionProvider",))
    assert "onnxruntime-gpu" in str(devices.cuda_obstacle())
    monkeypatch.setattr(devices, "providers", lambda: ("CUDAExecutionProvider",))
    monkeypatch.setattr(devices, "driver", lambda: devices.Driver("12.4", ("GPU",), None))
    assert "a newer driver is needed" in str(devices.cuda_obstacle())


def test_tensorrt_wants_its_own_library(
    with_driver: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(devices, "missing_libraries", lambda: ())
    monkeypatch.setattr(devices, "_on_loader_path", lambda _: False)
    monkeypatch.setattr(devices.sys, "path", [str(tmp_path)])
    assert devices.cuda_obstacle() is None
    assert "pip install 'tensorrt-cu13<11'" in str(devices.cuda_obstacle(tensorrt=True))
    (tmp_path / "tensorrt_libs").mkdir()
    (tmp_path / "tensorrt_libs" / "libnvinfer.so.10").touch()
    assert devices.cuda_obstacle(tensorrt=True) is None


def test_the_report_speaks_of_this_machine() -> None:
    report = devices.device_report()
    assert report.cores == devices.allowed_cores() >= 1
    assert report.runtime is not None
    assert report.runtime.startswith("onnxruntime")
    assert "CPUExecutionProvider" in report.providers
    assert report.to_dict()["auto"] in ("cpu", "cuda")


def test_threads_stay_within_the_affinity_mask(bundle: Bundle) -> None:
    script = (
        "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from eccos_rs.predict.bundle import Bundle; from eccos_rs.domain.query import Query\n"
        "from eccos_rs.predict.open import open_predictor\n"
        "predictor = open_predictor(Bundle.load(sys.argv[1]), device='cpu', threads=8)\n"
        "predictor.predict([Query('what is it')]); predictor.predict([Query(str(n)) for n in range(50)])\n"
        "print(predictor._encoder._threads, predictor._encoder._pool is None)"
    )
    if not hasattr(__import__("os"), "sched_setaffinity"):
        pytest.skip("this system has no affinity masks")
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundle.path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "True"]


def test_provider_options_are_names_that_the_providers_know() -> None:
    """Without a GPU the providers cannot be loaded, but their option names stand in their libraries."""
    import onnxruntime

    folder = Path(onnxruntime.__file__).parent / "capi"
    libraries = {
        "CUDAExecutionProvider": folder / "libonnxruntime_providers_cuda.so",
        "TensorrtExecutionProvider": folder / "libonnxruntime_providers_tensorrt.so",
    }
    if not all(path.is_file() for path in libraries.values()):
        pytest.skip("this ONNX Runtime has no GPU providers")
    for entry in provider_list(tensorrt=True, cuda_graph=True, cache=Path("engines")):
        if isinstance(entry, tuple):
            with libraries[entry[0]].open("rb") as stream:
                text = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
                assert all(text.find(name.encode()) >= 0 for name in entry[1]), entry
                assert text.find(b"no_such_option") < 0


def test_the_providers_come_best_first() -> None:
    plain, recorded = (provider_list(tensorrt=False, cuda_graph=graph) for graph in (False, True))
    assert [entry[0] if isinstance(entry, tuple) else entry for entry in plain] == [
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]
    assert plain[0][1]["enable_cuda_graph"] == "0"
    assert recorded[0][1]["enable_cuda_graph"] == "1"
    assert provider_list(tensorrt=True, cuda_graph=False)[0][0] == "TensorrtExecutionProvider"


def test_the_gpu_takes_float16_and_tensorrt_the_standard_graph(bundle: Bundle) -> None:
    assert gpu_variant(bundle) == "float16"
    assert gpu_variant(bundle, tensorrt=True) == "float32"


def test_slices_hold_every_row_once_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(2, 257, 5000).tolist()
    parts = list(slices_by_length(lengths))
    assert sorted(np.concatenate(parts).tolist()) == list(range(5000))
    padded, real = 0, sum(lengths)
    for part in parts:
        longest = lengths[part[0]]
        assert longest == max(lengths[row] for row in part)
        assert len(part) * (-(-longest // 8) * 8) <= TOKEN_BUDGET
        padded += len(part) * longest
    assert padded < 1.15 * real


def test_padding_leaves_no_row_without_a_token() -> None:
    ids, mask = pad([np.array([5, 6, 7]), np.array([8])], (4, 8))
    np.testing.assert_array_equal(ids[0], [5, 6, 7, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(mask.sum(axis=1), [3, 1, 1, 1])


def test_the_float16_graph_runs_padded_on_the_cpu_as_on_a_gpu(bundle: Bundle) -> None:
    """No GPU needed to see that packing, padding and unpacking put every row where it belongs."""
    from eccos_rs.predict.encoder import cpu_session
    from eccos_rs.predict.graph import Encoded, Layout, graph_file

    predictor: Any = open_predictor(bundle, "trained", device="cpu", variant="float32")
    ids = predictor._tokenizer(tiny.texts(30)).ids
    wanted = predictor._encoder.run(ids)
    session = cpu_session(graph_file(bundle, "float16"), 1)
    layout = Layout.of_heads(tiny.WIDTH, 3)
    arrays = layout.empty(30)
    for rows in slices_by_length([len(each) for each in ids], budget=400):
        part = [ids[row] for row in rows]
        padded, mask = pad(part, (len(part), -(-len(part[0]) // 8) * 8))
        made = session.run(list(layout.widths), {"input_ids": padded, "attention_mask": mask})
        for array, values in zip(arrays, made, strict=True):
            array[rows] = values
    out = Encoded(*arrays)
    np.testing.assert_allclose(out.success_logit, wanted.success_logit, atol=0.03)
    np.testing.assert_allclose(out.embedding, wanted.embedding, atol=0.02)


@pytest.mark.parametrize("variant", ["float32", "float16"])
def test_the_gpu_code_runs_whole_on_the_cpu_provider(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    """Binding, recording, replaying, packing: all but the kernels, with the buffers in host memory."""
    monkeypatch.setattr(cuda, "MEMORY", "cpu")
    monkeypatch.setattr(cuda, "provider_list", lambda **_: ["CPUExecutionProvider"])
    encoder = cuda.CudaEncoder(bundle, variant=variant)
    assert (encoder.device, encoder.variant) == ("cuda", variant)
    assert set(encoder._recorded) == {(queries, tokens) for queries in (1, 4, 16) for tokens in (32, 48)}
    predictor: Any = open_predictor(bundle, "trained", device="cpu", variant="float32")
    for count in (1, 3, 16, 40):
        ids = predictor._tokenizer(tiny.texts(count, seed=count)).ids
        wanted, got = predictor._encoder.run(ids), encoder.run(ids)
        np.testing.assert_allclose(got.embedding, wanted.embedding, atol=0.02)
        np.testing.assert_allclose(got.success_logit, wanted.success_logit, atol=0.03)
        np.testing.assert_allclose(got.length_std, wanted.length_std, atol=0.03)


def test_a_gpu_that_cannot_record_still_serves(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no CUDA graphs here")

    monkeypatch.setattr(cuda, "MEMORY", "cpu")
    monkeypatch.setattr(cuda, "provider_list", lambda **_: ["CPUExecutionProvider"])
    monkeypatch.setattr(cuda, "_record", refuse)
    encoder = cuda.CudaEncoder(bundle)
    assert encoder._recorded == {}
    assert encoder.run([np.array([2, 5, 3])]).success_logit.shape == (1, 3)


@without_gpu
def test_without_a_gpu_the_line_is_for_a_machine_that_has_one() -> None:
    report = devices.device_report()
    assert "no NVIDIA GPU was found" in report.cuda
    assert ("with a GPU, install", "pip install 'eccos-rs[cuda]'") in report.lines()
    assert "on a machine with one" in str(devices.cuda_obstacle())
