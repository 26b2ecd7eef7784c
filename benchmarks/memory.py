"""The memory that the models of the paper need, by quantization; nothing is downloaded or run.

    python -m benchmarks.memory --particles 16 --tokens 1024

prints the tables of docs/run_the_paper.md from the formula of `benchmarks.memory_needs`, in GiB.
"""

import argparse
from typing import Any, Final

from transformers import LlamaConfig, Qwen2Config

from benchmarks.memory_needs import ModelSize, model_size

GIB: Final = 2**30
KINDS: Final = ("none", "int8", "nf4", "nf4-double")

_QWEN_7B: Final[dict[str, Any]] = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
}

# Public facts: from the config.json of each checkpoint on the hub.
POLICIES: Final[dict[str, tuple[Any, dict[str, Any]]]] = {
    "Qwen/Qwen2.5-Math-1.5B-Instruct": (
        Qwen2Config,
        {
            "vocab_size": 151936,
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
    ),
    "Qwen/Qwen2.5-Math-7B-Instruct": (Qwen2Config, _QWEN_7B),
    "meta-llama/Llama-3.2-1B-Instruct": (
        LlamaConfig,
        {
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "tie_word_embeddings": True,
        },
    ),
    "meta-llama/Llama-3.1-8B-Instruct": (
        LlamaConfig,
        {
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "tie_word_embeddings": False,
        },
    ),
}

REWARD: Final = "Qwen/Qwen2.5-Math-PRM-7B"


def reward_size() -> ModelSize:
    """Return the size of the reward model: the layers of the 7B policy, and a head of its own.

    In place of the output embeddings it has two layers, from 3584 to 3584 and to 2, which are not
    quantised.
    """
    width, vocab_size = _QWEN_7B["hidden_size"], _QWEN_7B["vocab_size"]
    policy = model_size(Qwen2Config(**_QWEN_7B))
    head = width * width + width + 2 * width + 2
    others = policy.others - width * vocab_size + head
    return ModelSize(policy.quantizable, policy.rows, others, policy.cached_per_token, 2)


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--particles", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=1024, help="of the prompt and a solution")
    arguments = parser.parse_args()
    sizes = {name: model_size(cls(**config)) for name, (cls, config) in POLICIES.items()}
    sizes[REWARD] = reward_size()
    print("\n".join(weights_table(sizes)))
    print()
    print("\n".join(run_table(sizes, arguments.particles, arguments.tokens)))


def weights_table(sizes: dict[str, ModelSize]) -> list[str]:
    """Return the lines of a table of weights, and of what a token of one particle adds."""
    lines = [
        "| model | parameters, 10⁹ | bf16 | int8 | nf4 | nf4, double | cache a token, KiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, size in sizes.items():
        weights = " | ".join(f"{size.weights(kind) / GIB:.2f}" for kind in KINDS)
        lines.append(
            f"| {name} | {size.num_parameters / 1e9:.2f} | {weights} "
            f"| {size.cache(1, 1) / 1024:.0f} |"
        )
    return lines


def run_table(sizes: dict[str, ModelSize], num_particles: int, num_tokens: int) -> list[str]:
    """Return the lines of a table of runs, with the reward model in bf16 or in nf4."""
    reward = sizes[REWARD]
    lines = [
        f"| policy, {num_particles} particles of {num_tokens} tokens | caches "
        "| bf16, reward bf16 | nf4, reward bf16 | nf4, reward nf4 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, size in sizes.items():
        if name == REWARD:
            continue
        caches = size.cache(num_particles, num_tokens) + reward.cache(num_particles, num_tokens)
        totals = [
            (size.weights(policy_kind) + reward.weights(reward_kind) + caches) / GIB
            for policy_kind, reward_kind in (("none", "none"), ("nf4", "none"), ("nf4", "nf4"))
        ]
        cells = " | ".join(f"{total:.1f}" for total in totals)
        lines.append(f"| {name} | {caches / GIB:.1f} | {cells} |")
    return lines


if __name__ == "__main__":
    main()
