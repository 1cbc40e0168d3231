"""A real engine behind the OpenAI protocol: `transformers serve` over a tiny model with random weights."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Served", "served"]


class Served:
    """A running server: its address, its model's name, and how many chats it answered."""

    def __init__(self, url: str, model: str, log: Path) -> None:
        self.url, self.model, self.log = url, model, log

    @property
    def answered(self) -> int:
        return len(re.findall(r'"POST /v1/chat/completions HTTP/1\.1" 200', self.log.read_text()))


def tiny_model(folder: str) -> None:
    """Save a one-layer Llama with random weights and a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    signs = {sign: number for number, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab={**signs, "<s>": 256, "</s>": 257}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n"
        "{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 257}
    config = LlamaConfig(vocab_size=258, num_key_value_heads=2, max_position_embeddings=2048, **size, **ends)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    for package in ("transformers", "torch", "fastapi", "accelerate"):
        pytest.importorskip(package, reason="the real server needs transformers[serving]")
    folder = tmp_path_factory.mktemp("served")
    (folder / "model").mkdir()
    code = "import sys; from tests.helpers.engine import tiny_model; tiny_model(sys.argv[1])"
    # In a process of its own, so that this one does not hold torch.
    subprocess.run([sys.executable, "-c", code, folder / "model"], check=True, capture_output=True, cwd=ROOT)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    line = ["-m", "transformers.cli.transformers", "serve", str(folder / "model"), "--device", "cpu"]
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hub")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *line, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **offline},
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield Served(f"http://127.0.0.1:{port}/v1", str(folder / "model"), folder / "log")
    finally:
        process.terminate()
        process.wait(20)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 200
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
