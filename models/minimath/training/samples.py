"""A policy's own solutions of training problems, many at once, labelled by the checker later."""

from collections.abc import Iterator, Sequence
from random import Random

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen2ForCausalLM

from llmsmc.core.randomness import seeded_globally
from llmsmc.models.minimath.datasets import TRAIN, set_of
from llmsmc.models.minimath.problem import LEVELS, STEP_SEPARATOR, Problem, draw_problem
from llmsmc.models.minimath.training.corpus import prompt_ids

MAX_NEW_TOKENS = 720


def training_problems(
    seed: str, count: int, levels: Sequence[int] = tuple(LEVELS)
) -> list[Problem]:
    """Draw `count` problems of the training set, levels in turn."""
    random = Random(seed)
    problems: list[Problem] = []
    while len(problems) < count:
        problem = draw_problem(random, levels[len(problems) % len(levels)])
        if set_of(problem.question) == TRAIN:
            problems.append(problem)
    return problems


@torch.no_grad()
def sample_solutions(
    policy: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    *,
    seed: int,
    temperature: float = 1.0,
    batch_size: int = 192,
) -> Iterator[tuple[Problem, tuple[str, ...]]]:
    """Yield one solution of each problem at a temperature (0: greedy), as its steps.

    Problems of a level go through together, since their solutions are about equally long. The
    global generator of torch is left as it was.
    """
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=temperature > 0,
        temperature=temperature if temperature > 0 else 1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=MAX_NEW_TOKENS,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )
    in_order = sorted(problems, key=lambda problem: problem.level)
    policy.train(False)
    with seeded_globally(seed):
        for start in range(0, len(in_order), batch_size):
            batch = in_order[start : start + batch_size]
            prompts = [prompt_ids(tokenizer, problem.question) for problem in batch]
            width = max(map(len, prompts))
            filler = int(tokenizer.pad_token_id)
            ids = torch.tensor([[filler] * (width - len(p)) + p for p in prompts])
            mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
            output = policy.generate(  # type: ignore[misc]
                ids.to(policy.device),
                attention_mask=mask.to(policy.device),
                generation_config=settings,
            )
            for problem, row in zip(batch, output[:, width:].tolist(), strict=True):
                text = str(tokenizer.decode(row, skip_special_tokens=True))
                yield problem, tuple(step for step in text.split(STEP_SEPARATOR) if step.strip())
