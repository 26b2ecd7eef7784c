"""The embedded models behind a real vLLM or llama.cpp, beside the same models in this process.

    python -m benchmarks.servers --python ENVIRONMENT/bin/python
    python -m benchmarks.servers --llama-server PROGRAM --gguf MODEL.gguf
    python -m benchmarks.servers --address http://127.0.0.1:8000/v1 --only law

* law: the answers of independent solutions, with the chi-square statistic of the two samples;
* solve: `llmsmc solve` on a problem;
* restart: `llmsmc eval` in the middle of which the server is killed and started again, beside one
  that is left alone: the same answers, and no result lost;
* reward: the scores of the reward model, beside those of the local one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path

import torch

from benchmarks.server_process import (
    LLAMA_VARIABLES,
    PYTHON_VARIABLE,
    ServerProcess,
    llama,
    running,
    vllm,
)
from llmsmc.evaluation.datasets import load
from llmsmc.evaluation.runner import Result
from llmsmc.grading.grades import grade
from llmsmc.inference import SelfConsistency
from llmsmc.models import (
    LanguageModel,
    Reasoning,
    RemoteLanguageModel,
    RemoteRewardModel,
    RewardModel,
)
from llmsmc.models.policies.policy import Policy
from llmsmc.models.pretrained.loading import load_plain_tokenizer, resolve
from llmsmc.models.rewards.conventions.qwen import MARKER

QUESTION = "Ann has 3 apples. She buys 4 more. Then she buys 5 more. How many has she?"
POLICY, REWARD = "minimath-policy", "minimath-reward"
CHECKS = ["law", "solve", "restart", "reward"]
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


def llmsmc(command: str, *words: object) -> None:
    """Run a command of the command line; fail if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "llmsmc", command, *map(str, words)], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"llmsmc {command} has ended with {done.returncode}:\n{done.stderr}")


def solve(address: str, num_particles: int) -> bool:
    """Print what `llmsmc solve` finds; return whether it leads to the right answer."""
    example = load("minimath-500", 1).examples[0]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run.json"
        llmsmc(
            *("solve", example.question, "--policy", address, "--policy-tokenizer", POLICY),
            *("--particles", num_particles, "--out", out),
        )
        run = json.loads(out.read_text())
    leading = run["answers"][0]
    print(f"  llmsmc solve: {leading['answer']!r}, right is {example.answer!r}")
    return grade(leading["answer"], example.answer) == "right"


def evaluation(address: str, limit: int, num_particles: int, folder: Path) -> list[Result]:
    """Return the results of `llmsmc eval` on the first problems of minimath-500."""
    llmsmc(
        *("eval", "minimath-500", "--policy", address, "--policy-tokenizer", POLICY),
        *("--limit", limit, "--particles", num_particles, "--in-flight", 2, "--out", folder),
    )
    return sorted(written(folder), key=lambda result: str(result["id"]))


def written(folder: Path) -> list[Result]:
    """Return the results that an evaluation has written so far."""
    path = folder / "results.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def survive_a_restart(server: ServerProcess, limit: int, num_particles: int) -> bool:
    """Print how an evaluation goes on over a restart; return whether nothing was lost."""
    folders = [Path(tempfile.mkdtemp()) / "run" for _ in range(2)]
    undisturbed = evaluation(server.url, limit, num_particles, folders[0])

    def restart() -> None:
        while len(written(folders[1])) < limit // 3:
            time.sleep(0.05)
        server.kill()
        print(f"  killed with {len(written(folders[1]))} of {limit} results written", flush=True)
        server.start()

    thread = threading.Thread(target=restart, daemon=True)
    thread.start()
    disturbed = evaluation(server.url, limit, num_particles, folders[1])
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
    """Run the comparisons of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--python", default=os.environ.get(PYTHON_VARIABLE), metavar="PATH")
    parser.add_argument("--llama-server", default=os.environ.get(LLAMA_VARIABLES[0]))
    parser.add_argument("--gguf", default=os.environ.get(LLAMA_VARIABLES[1]), metavar="FILE")
    parser.add_argument("--address", help="of a server that runs already", metavar="URL")
    parser.add_argument("--only", choices=CHECKS)
    parser.add_argument("--particles", type=int, default=300)
    parser.add_argument("--limit", type=int, default=12)
    given = parser.parse_args(arguments)
    chosen = [given.only] if given.only else CHECKS
    if given.address:
        if "law" in chosen:
            compare_laws(given.address, given.particles)
        if "solve" in chosen:
            solve(given.address, 16)
        if "reward" in chosen:
            compare_rewards(given.address)
        return
    if not (given.python or given.llama_server):
        parser.error(
            f"name the interpreter of an environment with vLLM (--python or {PYTHON_VARIABLE}), or "
            f"a llama-server and a GGUF file ({' and '.join(LLAMA_VARIABLES)})"
        )
    log = Path(tempfile.mkdtemp()) / "server.log"
    print(f"The log of the servers: {log}")
    if set(chosen) - {"reward"}:
        with running(_policy_server(given, log)) as server:
            if "law" in chosen:
                compare_laws(server.url, given.particles)
            if "solve" in chosen:
                solve(server.url, 16)
            if "restart" in chosen:
                survive_a_restart(server, given.limit, 16)
    if "reward" in chosen and not given.llama_server:
        model = Path(resolve(REWARD))
        with running(vllm(given.python, model, REWARD, log, reward_options())) as server:
            print(f"largest difference of log-odds {compare_rewards(server.url):.2g}")


def _policy_server(given: argparse.Namespace, log: Path) -> ServerProcess:
    if given.llama_server:
        return llama(given.llama_server, Path(given.gguf), POLICY, log)
    return vllm(given.python, Path(resolve(POLICY)), POLICY, log)


def reward_options() -> tuple[str, ...]:
    """Return the options by which vLLM scores steps, with the marker of the embedded tokenizer.

    By itself it looks for the id that the marker has in the vocabulary of Qwen2.5.
    """
    marker = load_plain_tokenizer(resolve(REWARD)).convert_tokens_to_ids(MARKER)
    return ("--runner", "pooling", "--pooler-config", json.dumps({"step_tag_id": marker}))


if __name__ == "__main__":
    main()
