"""llmsmc: the bootstrap filter, one problem after the other or several in flight."""

from functools import partial

import torch
from worker import serve

from benchmarks.embedded import outcomes
from llmsmc.inference import BootstrapFilter
from llmsmc.models import (
    LanguageModel,
    Reasoning,
    RewardModel,
    SharedLanguageModel,
    SharedReward,
)


def load(settings):
    """Load the models."""
    policy = LanguageModel.from_pretrained(
        settings["policy"], settings["quantization"], dtype=settings["dtype"]
    )
    reward = RewardModel.from_pretrained(settings["reward"])
    in_flight = settings["in_flight"]

    def posterior(question, seed, task, policy=policy, reward=reward):
        model = Reasoning(
            policy,
            reward,
            question,
            step=task["step_tokens"] or "\n\n",
            max_steps=task["max_steps"],
            max_tokens_per_step=task["max_tokens_per_step"],
        )
        return BootstrapFilter(task["particles"]).run(model, seed=seed)

    def one_by_one(task):
        for question in task["questions"]:
            found = posterior(question, task["seed"], task)
            yield found.cost.generated_tokens, partial(describe, found, reward)

    def together(task):
        shared = SharedLanguageModel(policy), SharedReward(reward)
        runs = [partial(posterior, q, task["seed"], task, *shared) for q in task["questions"]]
        yield sum(found.cost.generated_tokens for found in outcomes(runs, in_flight))

    return policy.model, reward.model.base_model, together if in_flight > 1 else one_by_one


def describe(posterior, reward):
    """Return what a run has to compute at least: rows for each token, and new steps to score.

    Particles that agree need one row, and those that have ended a step need none.
    """
    particles = posterior.particles
    steps, num_before = [], torch.zeros(len(particles), dtype=torch.long)
    layout = partial(reward.ids, particles.question, reading="steps")
    for t, (record, state) in enumerate(zip(posterior.history, posterior.recorded, strict=True)):
        if t:
            num_before = posterior.recorded[t - 1].num_tokens[record.ancestors]
        drawn = state.num_tokens - num_before
        rows = []
        for number in range(int(drawn.max())):
            active = (drawn > number).nonzero().squeeze(1)
            # Of the tokens before the one that is drawn all but the last are cached.
            seen = num_before[active] + number
            kept = torch.arange(state.token_ids.shape[1]) < seen[:, None]
            prefixes = torch.cat([state.token_ids[active].where(kept, -1), seen[:, None]], 1)
            rows.append(len(prefixes.unique(dim=0)))
        moved = (drawn > 0).nonzero().squeeze(1).tolist()
        if not moved:  # all that were resampled had finished
            continue
        texts = {state.steps[n] for n in moved if len(state.steps[n]) > t}
        read = [(len(layout(each)), len(layout(each[:t]))) for each in sorted(texts)]
        held = sum(before for _, before in read) // max(len(read), 1)
        width = -(-sum(after - before for after, before in read) // max(len(read), 1))
        cached = len(particles.prompt_ids) - 1 + int(num_before[moved].float().mean())
        steps.append({"rows": rows, "cached": cached, "scored": [len(read), held, width]})
    schedule = {
        "prompt": len(particles.prompt_ids) - 1,
        "question": len(reward.prefix_ids(particles.question)),
        "steps": steps,
        "generated_tokens": posterior.cost.generated_tokens,
    }
    return {"schedule": schedule}


if __name__ == "__main__":
    serve(load)
