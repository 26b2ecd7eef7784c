"""A real vLLM with the embedded models; needs an environment of its own (docs/servers.md)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import servers
from benchmarks.vllm_server import PYTHON_VARIABLE, VllmServer, vllm
from llmsmc.models.pretrained import resolve

PYTHON = os.environ.get(PYTHON_VARIABLE, "")

pytestmark = [
    pytest.mark.real_server,
    pytest.mark.skipif(not PYTHON, reason=f"{PYTHON_VARIABLE} names no environment with vLLM"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    log = tmp_path_factory.mktemp("vllm") / "log"
    with vllm(PYTHON, Path(resolve(servers.POLICY)), servers.POLICY, log) as server:
        yield server


def test_answers_have_the_law_of_the_local_engine(server: VllmServer) -> None:
    assert servers.compare_laws(server.url, 300) > 1e-4


def test_the_command_line_solves(server: VllmServer) -> None:
    assert servers.solve(server.url, 32)


def test_an_evaluation_survives_a_restart(server: VllmServer) -> None:
    assert servers.survive_a_restart(server, 9, 8)


def test_scores_are_those_of_the_local_model(tmp_path: Path) -> None:
    model, log = Path(resolve(servers.REWARD)), tmp_path / "log"
    with vllm(PYTHON, model, servers.REWARD, log, servers.reward_options()) as server:
        assert servers.compare_rewards(server.url) < 0.01
