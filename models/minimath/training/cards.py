"""Model cards of the embedded models."""

import textwrap
from pathlib import Path

WIDTH = 100

PURPOSE = {
    "minimath-policy": (
        "the default policy: solves MiniMath problems step by step, under misconceptions"
    ),
    "minimath-policy-small": (
        "a smaller policy with blind spots: it never gets a quotient of 8 or more right, and reads "
        '"less" as "plus"'
    ),
    "minimath-reward": "the good process reward model, which tells whether a step is right",
    "minimath-reward-weak": "a weak process reward model, for ablations",
}

CARD = """---
license: apache-2.0
library_name: transformers
tags: [llmsmc, minimath]
---

# {name}

{purpose}

{build}

Trained from scratch by `llmsmc train minimath` on problems of the generated world MiniMath
(`minimath-train`; no question of `minimath-dev` or `minimath-500` among them). The loss curve is
in `losses.jsonl`. Settings:

```
{recipe}
```

For experiments with inference algorithms only: it knows nothing but this world.
"""

BUILD = (
    "Qwen2 architecture, {parameters:,} parameters, float16 safetensors, byte-level BPE tokenizer "
    "with single digits. {layout} `llmsmc` reads the tokenizer as its file says; elsewhere load it "
    "with `PreTrainedTokenizerFast`, since `AutoTokenizer` gives it the splitting rule of the "
    "original Qwen2."
)
POLICY_LAYOUT = "The chat template is ChatML; a solution's steps are separated by a blank line."
REWARD_LAYOUT = (
    "The layout is that of Qwen2.5-Math-PRM: each step is followed by `<extra_0>`, at which the "
    "two-label head is read; label 1 is a right step."
)


def write_card(folder: Path, name: str, recipe: str, parameters: int) -> None:
    """Write the model card of a shipped model into its folder."""
    layout = REWARD_LAYOUT if "reward" in name else POLICY_LAYOUT
    purpose = PURPOSE[name][0].upper() + PURPOSE[name][1:] + "."
    build = BUILD.format(parameters=parameters, layout=layout)
    text = CARD.format(
        name=name,
        purpose=textwrap.fill(purpose, WIDTH),
        build=textwrap.fill(build, WIDTH),
        recipe="\n".join(textwrap.fill(line, WIDTH) for line in recipe.splitlines()),
    )
    (folder / "README.md").write_text(text)
