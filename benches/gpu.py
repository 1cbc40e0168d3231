"""Checks and times everything that needs a GPU, in one run of a few minutes, from the checkout alone.

    python -m benches.gpu [--seconds 2] [--minutes 4.5] [--tensorrt]

Wants the package (built or from its wheel) with `eccos-rs[cuda]`, nothing from the network, and for the rival
torch and sentence-transformers; `ECCOS_DATA` names the folder of the labelled data for the AUC. Says what was
found, checks the GPU's answers against the float32 graph on the CPU, and times the pipeline from text to
decision. A part that breaks is told and the others go on. Ends with status 0 when every check passed, 1 when
one failed, and 2 when there is no GPU that ONNX Runtime can start; what can be checked without one is checked
then too.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benches.settings import MEAN_OUTPUT_TOKENS, TOKENS_PER_SECOND
from benches.texts import KINDS, texts
from eccos_rs.predict.open import open_predictor

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES = (1, 4, 16, 64, 256, 1024, 16_384)
# The figures to reach on a GPU of the H200 class: milliseconds of a whole batch of mixed queries.
WANTED = {1: 1.5, 256: 4.0}
FAILED: list[str] = []
STARTED = time.perf_counter()


def say(text: str = "") -> None:
    print(text, flush=True)


def check(name: str, passed: bool, detail: str) -> None:
    say(f"  {'pass' if passed else 'FAIL'}  {name}: {detail}")
    if not passed:
        FAILED.append(name)


def part(name: str, work: Callable[[], object]) -> None:
    """Do one part of the run; what breaks in it must not cost the others, for a GPU is dear."""
    say(f"\n{name} (after {time.perf_counter() - STARTED:.0f} s)")
    try:
        work()
    except Exception:
        traceback.print_exc(file=sys.stdout)
        check(name, False, "it broke")


def best(work: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Return the least and the median time of a function that is run for so long, three times at least."""
    work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 300):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times), float(np.median(times))


def check_device_rule(bundle: Any, has_gpu: bool) -> None:
    from eccos_rs.errors import DeviceError

    auto = open_predictor(bundle, "trained").device
    check("auto takes what there is", auto == ("cuda" if has_gpu else "cpu"), f"device={auto}")
    if has_gpu:
        return
    for device in ("cuda", "tensorrt"):
        try:
            got = open_predictor(bundle, "trained", device=device).device
            check(f"device={device} is refused", False, f"it ran on {got}")
        except DeviceError as error:
            check(f"device={device} is refused", True, str(error))


def check_float16_on_cpu(bundle: Any) -> None:
    """Check the precision of the GPU's graph, which can be done anywhere."""
    given = queries("mixed", 64)
    wanted = open_predictor(bundle, "hybrid", device="cpu", variant="float32").predict(given)
    compare(wanted, open_predictor(bundle, "hybrid", device="cpu", variant="float16").predict(given))


def compare(wanted: Any, got: Any) -> None:
    """Compare forecasts with those of float32 on the CPU, within the limits that a variant must keep."""
    quality = float(np.abs(got.quality - wanted.quality).mean())
    check("success", quality <= 0.015, f"mean absolute difference {quality:.5f}, at most 0.015")
    cosine = float((got.embedding * wanted.embedding).sum(axis=1).min())
    check("embedding", cosine > 0.995, f"least cosine {cosine:.5f}")
    length = float(np.abs(np.log1p(got.output_tokens) - np.log1p(wanted.output_tokens)).mean())
    check("length", length <= 0.05, f"mean absolute difference of ln(1 + tokens) {length:.5f}")
    changed = float(np.mean(got.quality.argmax(axis=1) != wanted.quality.argmax(axis=1)))
    say(f"        the best model changes for {changed:.2%} of the queries")


def queries(kind: str, count: int) -> list[Any]:
    from eccos_rs import Query

    return [Query(text) for text in texts(kind, count)]


def check_accuracy(bundle: Any, device: str) -> None:
    """Compare the GPU with float32 on the CPU: large slices, and small batches, which are replayed."""
    asked = queries("mixed", 512)
    wanted = open_predictor(bundle, "hybrid", device="cpu", variant="float32").predict(asked)
    predictor = open_predictor(bundle, "hybrid", device=device, cache_size=0)
    compare(wanted, predictor.predict(asked))
    for size in (1, 3, 16):
        got = predictor.predict(asked[:size])
        off = float(np.abs(got.quality - wanted.quality[:size]).max())
        check(f"batch of {size}", off <= 0.03, f"success differs by at most {off:.4f}")


def check_auc(bundle: Any, device: str) -> None:
    """Compare the AUC on the labelled data, where they are at hand (ECCOS_DATA)."""
    folder = Path(os.environ.get("ECCOS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    path = folder / "qaserve_public.parquet"
    if not path.is_file():
        say(f"  skip  AUC: no labelled data at {path}; set ECCOS_DATA")
        return
    from eccos_rs import Query
    from eccos_rs.records import RecordTable
    from eccos_rs.train.optimize import mean_auc

    table = RecordTable.read(path)
    rows = np.random.default_rng(0).permutation(len(table.query))[:2000]
    given = [Query(table.query[row]) for row in rows]
    columns = [list(table.models).index(name) for name in bundle.models]
    success = table.quality[rows][:, columns]
    auc = {
        name: mean_auc(open_predictor(bundle, "trained", **how).predict(given).quality, success)
        for name, how in {"cpu": {"device": "cpu", "variant": "float32"}, device: {"device": device}}.items()
    }
    difference = auc[device] - auc["cpu"]
    check("AUC", abs(difference) <= 0.003, f"{auc[device]:.4f}, float32 {auc['cpu']:.4f}")


def check_started(predictor: Any) -> None:
    """Check that what makes a GPU fast is really in use, and say why not."""
    encoder, search = predictor._encoder, predictor.retrieval
    if predictor.device == "cuda":
        why = f": {encoder.not_recorded}" if encoder.not_recorded else ""
        count = len(encoder._recorded)
        check("CUDA graphs", count > 0, f"{count} shapes recorded{why}")
    why = f": {search.not_on_device}" if search.not_on_device else ""
    check("search on the GPU", search._on_device is not None, f"{len(search):,} vectors{why}")
    check("placement", *_placement(encoder, search))


def _placement(encoder: Any, search: Any) -> tuple[bool, str]:
    """Profile one run of each session and name the operators that ran on the processor."""
    import json

    import onnxruntime as ort

    from eccos_rs.predict.cuda import provider_list
    from eccos_rs.predict.graph import session_options

    options = session_options()
    options.enable_profiling, options.profile_file_prefix = True, "gpu_placement"
    chain = provider_list(tensorrt=False, cuda_graph=False)
    session = ort.InferenceSession(encoder._session._model_path, options, providers=chain)
    ids = np.ones((4, 64), dtype=np.int64)
    session.run(None, {"input_ids": ids, "attention_mask": ids})
    path = Path(session.end_profiling())
    events = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    placed = [each["args"] for each in events if each.get("cat") == "Node" and "provider" in each["args"]]
    elsewhere = sorted({each["op_name"] for each in placed if each["provider"] != "CUDAExecutionProvider"})
    # Shapes are worked out on the processor by design; a copy between the two is what must not be.
    copies = [name for name in elsewhere if name.startswith("Memcpy")]
    copies += sorted({each["op_name"] for each in placed if each["op_name"].startswith("Memcpy")})
    found = f"{len(placed)} operators, not on the GPU: {', '.join(elsewhere) or 'none'}"
    return bool(placed) and not copies, found


def time_whole(bundle: Any, device: str, seconds: float, until: float) -> None:
    from eccos_rs import Pool, Router

    start = time.perf_counter()
    predictor = open_predictor(bundle, "hybrid", device=device, cache_size=0)
    say(f"{predictor}: made and warmed up in {time.perf_counter() - start:.1f} s")
    check_started(predictor)
    router = Router(Pool.load(bundle.pool_path), predictor)
    answer = MEAN_OUTPUT_TOKENS / TOKENS_PER_SECOND
    say(f"  share: of {answer:.1f} s, {MEAN_OUTPUT_TOKENS:.0f} tokens at {TOKENS_PER_SECOND:.0f} a second")
    say("  mix    batch   best ms  median ms   us a query    share   stages of the best run, ms")
    # The figures to reach first, should the time run out.
    for kind in sorted(KINDS, key=lambda kind: kind != "mixed"):
        for batch in BATCHES:
            if time.perf_counter() > until:
                say(f"  skip  {kind} {batch}: the time is up")
                continue
            _time_batch(router, kind, batch, seconds, answer)


def _time_batch(router: Any, kind: str, batch: int, seconds: float, answer: float) -> None:
    plans: list[Any] = []
    route, given = partial(router.route, min_quality=0.7), texts(kind, batch)
    least, middle = best(lambda: plans.append(route(given)), seconds)
    fastest = min(plans, key=lambda plan: plan.overhead)
    stages = ", ".join(f"{name} {1e3 * took:.2f}" for name, took in fastest.seconds.items())
    a_query = f"{1e6 * least / batch:>12.1f} {least / batch / answer:>8.4%}"
    say(f"  {kind:<6} {batch:>5} {1e3 * least:>9.2f} {1e3 * middle:>10.2f} {a_query}   {stages}")
    if kind == "mixed" and batch in WANTED:
        check(f"batch {batch}", 1e3 * least <= WANTED[batch], f"at most {WANTED[batch]} ms on an H200")


def time_loop(bundle: Any, device: str) -> None:
    """Time the rival: the same encoder in torch on this GPU, query by query, 16 neighbours in numpy."""
    try:
        import torch
        from sentence_transformers import SentenceTransformer

        from eccos_rs.train.encoder import encoder_folder
    except ImportError as error:
        say(f"  skip  the loop over queries: {error.name} is not installed")
        return
    model = SentenceTransformer(str(encoder_folder()), device="cuda" if torch.cuda.is_available() else "cpu")
    rows = int(bundle.table("retrieval")["rows"])
    vectors = np.random.default_rng(0).normal(size=(rows, 384)).astype(np.float32)
    given = texts("mixed", 256)

    def loop() -> None:
        for text in given:
            near = vectors @ model.encode([text], normalize_embeddings=True, show_progress_bar=False)[0]
            np.argsort(-near)[:16]

    slow, _ = best(loop, 1.0)
    predictor = open_predictor(bundle, "hybrid", device=device, cache_size=0)
    asked = queries("mixed", 256)
    fast, _ = best(lambda: predictor.predict(asked), 2.0)
    say(f"  a torch loop over 256 queries: {1e3 * slow:.1f} ms; eccos-rs: {1e3 * fast:.1f} ms")
    check("against the loop", slow / fast >= 100, f"{slow / fast:.0f} times as fast, at least 100")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", help="a bundle's folder or name; the shipped one by default")
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each batch size")
    parser.add_argument("--minutes", type=float, default=4.5, help="after so many no further batch is timed")
    parser.add_argument("--tensorrt", action="store_true", help="time TensorRT too")
    given = parser.parse_args()

    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.predict.device import cuda_obstacle, device_report

    for name, value in device_report().lines():
        say(f"{name:<18} {value}")
    bundle = Bundle.load(given.bundle)
    obstacle = cuda_obstacle()
    until = STARTED + 60 * given.minutes
    part("device rule", lambda: check_device_rule(bundle, obstacle is None))
    part("float16 graph on the CPU", lambda: check_float16_on_cpu(bundle))
    if obstacle is not None:
        say(f"\nNo GPU to run on: {obstacle}")
        return 1 if FAILED else 2
    for device in ("cuda", *(["tensorrt"] if given.tensorrt else [])):
        part(f"{device} against float32 on the CPU", partial(check_accuracy, bundle, device))
        part(f"{device}: AUC", partial(check_auc, bundle, device))
        part(f"{device}: text to decision", partial(time_whole, bundle, device, given.seconds, until))
    part("the rival", lambda: time_loop(bundle, "cuda"))
    say(f"\n{'all checks passed' if not FAILED else 'failed: ' + ', '.join(FAILED)}")
    say(f"{time.perf_counter() - STARTED:.0f} s in all")
    return 1 if FAILED else 0


if __name__ == "__main__":
    raise SystemExit(main())
