"""The embedded models behind a real vLLM, beside the same models in this process.

    python -m benchmarks.servers --python ENVIRONMENT/bin/python
    python -m benchmarks.servers --address http://127.0.0.1:8000/v1 --only law

* law: the answers of independent solutions, with the chi-square statistic of the two samples;
* restart: an evaluation in the middle of which the server is killed and started again, beside one
  that is left alone: the same answers, and no result lost;
* reward: the scores of the reward model, beside those of the local one.
"""

import argparse
import math
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.vllm_server import PYTHON_VARIABLE, VllmServer, vllm
from llmsmc.datasets import load
from llmsmc.evaluation import Result, evaluate_each
from llmsmc.inference import BootstrapFilter, SelfConsistency
from llmsmc.models import (
    LanguageModel,
    Reasoning,
    RemoteLanguageModel,
    RemoteRewardModel,
    RewardModel,
)
from llmsmc.models.policy import Policy
from llmsmc.models.pretrained import resolve

QUESTION = "Ann has 3 apples. She buys 4 more. Then she buys 5 more. How many has she?"
POLICY, REWARD = "minimath-policy", "minimath-reward"
FEWEST = 10  # expected counts below which answers are put together


def two_samples(
    first: Counter[Hashable], second: Counter[Hashable], fewest: int = FEWEST
) -> tuple[float, int, float]:
    """Return chi-square, its degrees of freedom and the p-value of two samples of one law.

    Outcomes that are rare in both together are one.
    """
    sizes = torch.tensor([[first.total()], [second.total()]], dtype=torch.float64)
    outcomes = list({**first, **second})
    counts = torch.tensor(
        [[sample[key] for key in outcomes] for sample in (first, second)], dtype=torch.float64
    )
    share = float(sizes.min() / sizes.sum())
    frequent = counts.sum(0) * share >= fewest
    counts = torch.cat([counts[:, frequent], counts[:, ~frequent].sum(1, keepdim=True)], dim=1)
    counts = counts[:, counts.sum(0) > 0]
    expected = sizes * counts.sum(0) / sizes.sum()
    statistic = float(((counts - expected).square() / expected).sum())
    freedom = counts.shape[1] - 1
    half = torch.tensor([freedom / 2, statistic / 2], dtype=torch.float64)
    return statistic, freedom, float(torch.special.gammaincc(half[0], half[1]))


def answers(policy: Policy, num_particles: int, seed: int) -> Counter[Hashable]:
    """Return how often each answer is given by independent solutions."""
    model = Reasoning(policy, None, QUESTION, max_steps=12, max_tokens_per_step=128)
    return Counter(
        SelfConsistency(num_particles, record=False).run(model, seed=seed).particles.answers()
    )


def compare_laws(address: str, num_particles: int, seed: int = 0) -> float:
    """Print the answers of both and the p-value; return it."""
    remote = RemoteLanguageModel(address, POLICY, tokenizer=POLICY)
    local = LanguageModel.from_pretrained(POLICY)
    started = time.perf_counter()
    behind = answers(remote, num_particles, seed)
    seconds = time.perf_counter() - started
    here = answers(local, 10 * num_particles, seed + 1)
    statistic, freedom, p_value = two_samples(behind, here)
    print(f"{remote!r}: {num_particles} solutions in {seconds:.0f} s")
    print(f"  most frequent there {behind.most_common(6)}")
    print(f"  most frequent here  {here.most_common(6)} of {10 * num_particles}")
    print(f"  chi-square {statistic:.2f} with {freedom} degrees of freedom, p = {p_value:.3f}")
    remote.close()
    return p_value


def evaluation(address: str, limit: int, num_particles: int) -> list[Result]:
    """Return the results of the bootstrap filter on the first problems of minimath-500."""
    policy = RemoteLanguageModel(address, POLICY, tokenizer=POLICY, retry_for=1800.0)
    reward = RewardModel.from_pretrained(REWARD)
    algorithm = BootstrapFilter(num_particles, record=False)

    def run(example: Any, seed: int) -> Any:
        model = Reasoning(policy, reward, example.question, max_steps=12, max_tokens_per_step=128)
        return algorithm.run(model, seed=seed)

    results = list(evaluate_each(load("minimath-500", limit).examples, run, 0))
    policy.close()
    return results


def survive_a_restart(server: VllmServer, limit: int, num_particles: int) -> bool:
    """Print how an evaluation goes on over a restart; return whether nothing was lost."""
    undisturbed = evaluation(server.url, limit, num_particles)
    seconds = math.fsum(result["seconds"] for result in undisturbed)

    def restart() -> None:
        time.sleep(seconds / 2)
        print(f"  killed after {seconds / 2:.0f} s", flush=True)
        server.kill()
        server.start()

    thread = threading.Thread(target=restart)
    thread.start()
    disturbed = evaluation(server.url, limit, num_particles)
    thread.join()
    same = [a["answer"] == b["answer"] for a, b in zip(undisturbed, disturbed, strict=True)]
    failed = sum(result["cost"]["failed_particles"] for result in disturbed)
    errors = [result["error"] for result in disturbed if result["error"]]
    longest = max(result["seconds"] for result in disturbed)
    print(f"  {len(disturbed)} of {limit} results, {sum(same)} with the answer of before, ")
    print(f"  {failed} particles failed, errors {errors}, longest problem {longest:.0f} s")
    return all(same) and not failed and not errors


def compare_rewards(address: str) -> float:
    """Print the scores of both; return the largest difference of log-odds."""
    steps = ["a = 7 + 4 = 11\n\n", "b = a + 3 = 11 + 3 = 15\n\n", "The answer is \\boxed{15}."]
    question = "Let a = 7 + 4. Let b = a + 3. What is b?"
    local = RewardModel.from_pretrained(REWARD)
    remote = RemoteRewardModel(address, REWARD, tokenizer=REWARD)
    here, there = local.score(question, steps), remote.score(question, steps)
    print(f"{remote!r}\n  there {there}\n  here  {here}")
    remote.close()
    logits = [torch.tensor(each, dtype=torch.float64).logit() for each in (here, there)]
    return float((logits[0] - logits[1]).abs().max())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--python", default=os.environ.get(PYTHON_VARIABLE), metavar="PATH")
    parser.add_argument("--address", help="of a server that runs already", metavar="URL")
    parser.add_argument("--only", choices=["law", "restart", "reward"])
    parser.add_argument("--particles", type=int, default=300)
    parser.add_argument("--limit", type=int, default=6)
    given = parser.parse_args(arguments)
    chosen = [given.only] if given.only else ["law", "restart", "reward"]
    if given.address:
        for each in chosen:
            compare_rewards(given.address) if each == "reward" else compare_laws(
                given.address, given.particles
            )
        return
    if not given.python:
        parser.error(
            f"name the interpreter of an environment with vLLM: --python or {PYTHON_VARIABLE}"
        )
    log = Path(tempfile.mkdtemp()) / "vllm.log"
    print(f"The log of the servers: {log}")
    if {"law", "restart"} & set(chosen):
        with vllm(given.python, Path(resolve(POLICY)), POLICY, log) as server:
            if "law" in chosen:
                compare_laws(server.url, given.particles)
            if "restart" in chosen:
                survive_a_restart(server, given.limit, 16)
    if "reward" in chosen:
        with vllm(given.python, Path(resolve(REWARD)), REWARD, log, REWARD_OPTIONS) as server:
            print(f"largest difference of log-odds {compare_rewards(server.url):.2g}")


REWARD_OPTIONS = ("--runner", "pooling")

if __name__ == "__main__":
    main()
