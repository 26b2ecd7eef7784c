"""Plain `generate` of transformers: as many whole answers as there are particles, and no more."""

import torch
from networks import RewardModel, chat, load_policy
from worker import serve


def load(settings):
    """Load the models."""
    policy, tokenizer = load_policy(settings)
    reward = RewardModel(settings["reward"])  # of which nothing is asked

    def solve(task):
        torch.manual_seed(task["seed"])
        for question in task["questions"]:
            prompt = tokenizer(
                chat(tokenizer, question), add_special_tokens=False, return_tensors="pt"
            )["input_ids"]
            room = policy.config.max_position_embeddings - prompt.shape[1]
            written = policy.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=min(room, task["max_tokens"]),
                num_return_sequences=task["particles"],
                pad_token_id=tokenizer.pad_token_id,
            )[:, prompt.shape[1] :]
            ended = (written == tokenizer.eos_token_id).cumsum(1)
            yield int(((ended == 0) | ((ended == 1) & (written == tokenizer.eos_token_id))).sum())

    return policy, reward.trunk, solve


if __name__ == "__main__":
    serve(load)
