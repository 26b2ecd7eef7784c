"""A bare loop: the forward passes that a run needs, and nothing else.

The rows of each token are those of a run of llmsmc (particles that agree share one, those that have
ended a step have none), with as much cached as they have on average, in the cache of transformers;
and the new steps are fed to the reward model once, without padding. Nothing is drawn, stopped,
weighed or resampled.
"""

import torch
from networks import RewardModel, load_policy
from transformers import DynamicCache
from worker import serve


class Rows:
    """Rows of one length in a cache."""

    def __init__(self, network, config, length):
        """Feed a prompt of a length."""
        self._network, self._cache = network, DynamicCache(config=config)
        self._num_rows = 1
        self.feed(length)

    def fit(self, num_rows, length=None):
        """Copy or drop rows to a number of rows, and drop the tokens beyond a length."""
        held = self._cache.get_seq_length()
        if length is not None and length < held:
            self._cache.crop(length - held)
        if num_rows != self._num_rows:
            self._cache.batch_select_indices(torch.arange(num_rows) % self._num_rows)
            self._num_rows = num_rows

    def feed(self, width):
        """Feed a number of tokens to each row."""
        ids = torch.full((self._num_rows, width), 7)
        return self._network(input_ids=ids, past_key_values=self._cache, use_cache=True)


def load(settings):
    """Load the models."""
    policy, _ = load_policy(settings)
    reward = RewardModel(settings["reward"])

    @torch.no_grad()
    def run(schedule):
        decoded = Rows(policy, policy.config, schedule["prompt"])
        scored = Rows(reward.trunk, reward.network.config, schedule["question"])
        for step in schedule["steps"]:
            decoded.fit(step["rows"][0], step["cached"])
            for rows in step["rows"]:
                decoded.fit(rows)
                decoded.feed(1)
            num_rows, held, width = step["scored"]
            if num_rows:
                scored.fit(num_rows, held)
                reward.network.score(scored.feed(width).last_hidden_state)

    def solve(task):
        for schedule in task["schedules"]:
            run(schedule)
            yield schedule["generated_tokens"]

    return policy, reward.trunk, solve


if __name__ == "__main__":
    serve(load)
