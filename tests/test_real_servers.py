"""Real servers with the embedded models; each needs something of its own (docs/servers.md)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import servers
from benchmarks.server_process import (
    LLAMA_VARIABLES,
    PYTHON_VARIABLE,
    ServerProcess,
    llama,
    running,
    vllm,
)
from llmsmc.models.pretrained.loading import resolve

PYTHON = os.environ.get(PYTHON_VARIABLE, "")
LLAMA = [os.environ.get(name, "") for name in LLAMA_VARIABLES]

needs_vllm = pytest.mark.skipif(
    not PYTHON, reason=f"{PYTHON_VARIABLE} names no environment with vLLM"
)
needs_llama = pytest.mark.skipif(
    not all(LLAMA), reason=f"{' and '.join(LLAMA_VARIABLES)} name no llama-server with its model"
)
pytestmark = pytest.mark.real_server


@pytest.fixture(
    scope="module",
    params=[pytest.param("vllm", marks=needs_vllm), pytest.param("llama", marks=needs_llama)],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp(request.param) / "log"
    if request.param == "vllm":
        process = vllm(PYTHON, Path(resolve(servers.POLICY)), servers.POLICY, log)
    else:
        process = llama(LLAMA[0], Path(LLAMA[1]), servers.POLICY, log)
    with running(process) as server:
        yield server


def test_answers_have_the_law_of_the_local_engine(server: ServerProcess) -> None:
    assert servers.compare_laws(server.url, 300) > 1e-4


def test_the_command_line_solves(server: ServerProcess) -> None:
    assert servers.solve(server.url, 32)


def test_an_evaluation_survives_a_restart(server: ServerProcess) -> None:
    assert servers.survive_a_restart(server, 9, 8)


@needs_vllm
def test_scores_are_those_of_the_local_model(tmp_path: Path) -> None:
    model, log = Path(resolve(servers.REWARD)), tmp_path / "log"
    with running(vllm(PYTHON, model, servers.REWARD, log, servers.reward_options())) as server:
        assert servers.compare_rewards(server.url) < 0.01
