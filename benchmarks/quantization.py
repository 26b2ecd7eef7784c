"""What quantization of the policy costs and gains: accuracy, speed, size, distance in law.

    python -m benchmarks.quantization --limit 250 --particles 16

evaluates the bootstrap filter on minimath-500 with the policy in each precision, and measures on
solutions of the full-precision policy the mean Kullback-Leibler divergence a token.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import torch

from llmsmc.models import LanguageModel
from llmsmc.models.minimath.datasets import minimath_dev
from llmsmc.models.minimath.training.samples import sample_solutions

KINDS: Final = ("none", "int8", "nf4", "fp4")


def main() -> None:
    """Measure and print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--limit", type=int, default=250)
    parser.add_argument("--particles", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("runs/quantization"))
    arguments = parser.parse_args()
    divergences = divergence_a_token()
    print("| quantization | accuracy, % | tokens a second | weights, MB | KL a token, nats |")
    print("| --- | --- | --- | --- | --- |")
    for kind in KINDS:
        folder = arguments.out / f"{kind}-{arguments.particles}"
        command = [sys.executable, "-m", "llmsmc", "eval", "minimath-500", "--out", str(folder)]
        command += ["--limit", str(arguments.limit), "--particles", str(arguments.particles)]
        command += ["--quantization", kind]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        overall = json.loads((folder / "summary.json").read_text())["overall"]
        results = [json.loads(line) for line in (folder / "results.jsonl").open()]
        tokens = sum(result["cost"]["generated_tokens"] for result in results)
        seconds = sum(result["seconds"] for result in results)
        accuracy, error = 100 * overall["accuracy"], 100 * overall["standard_error"]
        size = LanguageModel.from_pretrained(
            "minimath-policy", quantization=kind
        ).model.get_memory_footprint()
        print(
            f"| {kind} | {accuracy:.1f} ± {error:.1f} | {tokens / seconds:.0f} "
            f"| {size / 1e6:.2f} | {divergences[kind]:.4f} |"
        )


@torch.no_grad()
def divergence_a_token(num_problems: int = 50) -> dict[str, float]:
    """Mean KL from the law of full precision to that of each kind, over tokens of solutions."""
    full = LanguageModel.from_pretrained("minimath-policy", quantization="none")
    problems = minimath_dev(num_problems // 5)
    solutions = list(sample_solutions(full.model, full.tokenizer, problems, seed=2))
    texts = []
    for problem, steps in solutions:
        prompt = list(full.prompt_ids(problem.question))
        answer = full.tokenizer.encode("\n\n".join(steps), add_special_tokens=False)
        texts.append((prompt, answer))
    found = {}
    for kind in KINDS:
        other = LanguageModel.from_pretrained("minimath-policy", quantization=kind)
        total, count = 0.0, 0
        for prompt, answer in texts:
            ids = torch.tensor([prompt + answer])
            p, q = (
                model.model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
                for model in (full, other)
            )
            total += float((p.exp() * (p - q)).sum())
            count += len(answer)
        found[kind] = total / count
    return found


if __name__ == "__main__":
    main()
