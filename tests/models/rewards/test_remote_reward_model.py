"""The reward model behind a server, held to the same model in this process."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from llmsmc import Posterior, run_together
from llmsmc.errors import InputError, ServerError
from llmsmc.inference import BootstrapFilter
from llmsmc.models import (
    LanguageModel,
    Reasoning,
    RemoteRewardModel,
    RewardModel,
    SharedLanguageModel,
    SharedReward,
)
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.rewards.reward import Reward, Solution
from llmsmc.models.servers import client
from tests.models.conftest import saved
from tests.models.servers.fake_servers import FakeServer, Json
from tests.models.tiny_rewards import model_of, tokenizers_of

QUESTION = "What is 12 plus 30?"
STEPS = ["First, we add 3 and 4.\n\n", "The answer is 14.\n\n", "It is 42."]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_backoff", lambda state: 0.02)


class RewardServer(FakeServer):
    """A vLLM that runs a network of the tests."""

    network: Any = None
    read_at: int | None = None  # the marker, where only these are pooled

    def reply(self, path: str, body: Json) -> Json:
        pooling = self.options.get("runner") == "pooling"
        if path == "/pooling" and pooling:
            return self.pooled(body)
        if path == "/v1/completions" and not pooling:
            return self.next_token(body)
        return {"error": {"message": "no such task"}}

    def pooled(self, body: Json) -> Json:
        assert body["task"] == "token_classify"
        ids = torch.tensor([body["input"]])
        with torch.no_grad():
            hidden = self.network.base_model(input_ids=ids).last_hidden_state[0]
            rows = self.network.score(hidden)
        if body["use_activation"]:
            rows = rows.softmax(-1)
        if self.read_at is not None:
            rows = rows[ids[0] == self.read_at]
        return {"data": [{"index": 0, "data": rows.tolist()}]}

    def next_token(self, body: Json) -> Json:
        with torch.no_grad():
            law = self.network(torch.tensor([body["prompt"]])).logits[0, -1].log_softmax(-1)
        labels = body.get("logprob_token_ids", [])
        choice = {
            "token_ids": [0],
            "finish_reason": "length",
            "logprobs": {
                "token_logprobs": [0.0],
                "top_logprobs": [{f"token_id:{id}": float(law[id]) for id in labels}],
            },
        }
        return {"choices": [choice], "usage": {}}


@pytest.fixture
def reward_server(tokenizer: PreTrainedTokenizerFast) -> Iterator[RewardServer]:
    server = RewardServer("vllm", tokenizer)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def pooling(reward_server: RewardServer, reward: RewardModel) -> RewardServer:
    reward_server.network, reward_server.options = reward.model, {"runner": "pooling"}
    return reward_server


@pytest.fixture
def remote(pooling: RewardServer, reward_folder: Path) -> Iterator[RemoteRewardModel]:
    remote = RemoteRewardModel(pooling.url, tokenizer=str(reward_folder), retry_for=2.0)
    pooling.requests.clear()
    yield remote
    remote.close()


def test_scores_are_those_of_the_local_model(
    remote: RemoteRewardModel, reward: RewardModel, pooling: RewardServer
) -> None:
    assert isinstance(remote, Reward)
    expected = reward.score(QUESTION, STEPS)
    assert remote.score(QUESTION, STEPS) == pytest.approx(expected, abs=1e-5)
    marker = reward.tokenizer.convert_tokens_to_ids("<extra_0>")
    assert isinstance(marker, int)
    pooling.read_at = marker
    assert remote.score(QUESTION, STEPS) == pytest.approx(expected, abs=1e-5)
    assert remote.score(QUESTION, []) == []
    assert pooling.requests[0]["use_activation"] is False


def test_a_filter_runs_as_with_the_local_model(
    remote: RemoteRewardModel, reward: RewardModel, policy: LanguageModel
) -> None:
    local = BootstrapFilter(8).run(Reasoning(policy, reward, QUESTION, max_steps=3), seed=0)
    there = BootstrapFilter(8).run(Reasoning(policy, remote, QUESTION, max_steps=3), seed=0)
    assert there.log_evidence == pytest.approx(local.log_evidence, abs=1e-4)
    assert [a.text for a in there.particles] == [b.text for b in local.particles]
    assert there.cost.scored_tokens > 0


def test_a_server_scores_some_runs_while_others_go_on(
    remote: RemoteRewardModel, reward: RewardModel, policy: LanguageModel
) -> None:
    own, judge = SharedLanguageModel(policy), SharedReward(remote, tokens_meanwhile=4)
    shared, local = (
        Reasoning(first, second, QUESTION, max_steps=3)
        for first, second in ((own, judge), (policy, reward))
    )
    runs = [partial(BootstrapFilter(4).run, shared, seed=seed) for seed in range(3)]
    for seed, posterior in run_together(runs, 3):
        assert isinstance(posterior, Posterior)
        alone = BootstrapFilter(4).run(local, seed=seed)
        assert posterior.log_evidence == pytest.approx(alone.log_evidence, abs=1e-4)


def test_equal_solutions_are_scored_once(
    remote: RemoteRewardModel, pooling: RewardServer, reward: RewardModel
) -> None:
    solutions = [Solution((STEPS[0],), (STEPS[1],))] * 5 + [Solution((), (STEPS[0],))]
    scores, _, _ = remote.score_steps(QUESTION, solutions, CacheRows.none(6))
    assert len(pooling.requests) == 2
    log_odds = reward.log_odds(QUESTION, STEPS[:2]).tolist()
    assert scores[0] == scores[4] == pytest.approx([log_odds[1]], abs=1e-4)
    assert scores[5] == pytest.approx([log_odds[0]], abs=1e-4)


def test_a_solution_that_is_not_scored_fails(
    remote: RemoteRewardModel, pooling: RewardServer
) -> None:
    pooling.fault = lambda number, body: (400, {}, {}) if number == 0 else None
    solutions = [Solution((), (step,)) for step in STEPS]
    scores, _, cost = remote.score_steps(QUESTION, solutions, CacheRows.none(3))
    assert sum(isinstance(row, ServerError) for row in scores) == cost.failed_particles == 1
    assert all(math.isfinite(row[0]) for row in scores if isinstance(row, list))
    pooling.fault = lambda number, body: (400, {}, {})
    with pytest.raises(ServerError, match="400"):
        remote.score_steps(QUESTION, solutions, CacheRows.none(3))


NO_LOGITS: dict[str, Any] = {
    "NaN": [0, math.nan],
    "NaN of the other": [math.nan, 0],
    "infinite alike": [math.inf, math.inf],
    "infinite": [-math.inf, -math.inf],
}


@pytest.mark.parametrize("aggregation", ["product", "last", "min", "model", "odds", "exp"])
@pytest.mark.parametrize("logits", NO_LOGITS)
def test_a_score_of_a_server_that_is_no_number(
    logits: str,
    aggregation: str,
    remote: RemoteRewardModel,
    pooling: RewardServer,
    policy: LanguageModel,
) -> None:
    def fault(number: int, body: Json) -> Any:
        rows = [[0.0, 1.0] if number else NO_LOGITS[logits]] * len(body["input"])
        return 200, {}, {"data": [{"index": 0, "data": rows}]}

    pooling.fault = fault
    model = Reasoning(policy, remote, QUESTION, aggregation, step=4, max_steps=1)
    state = model.sample_initial(4, generator=torch.Generator().manual_seed(0))
    state, log_likelihood = model.observe(0, None, state, None)
    assert 0 < int(state.failed.sum()) < 4
    assert torch.equal(log_likelihood == -math.inf, state.failed)
    assert torch.equal(model.path_log_likelihood(0, state, None), log_likelihood)


@pytest.mark.parametrize(
    "rows",
    [
        "[[0.1, NaN], [0.2, 0.8]]",
        "[[0.1, Infinity], [0.2, 0.8]]",
        "[[0.1, 1e999], [0.2, 0.8]]",
        "[[0.1, null], [0.2, 0.8]]",
        '[[0.1, "0.9"], [0.2, 0.8]]',
        "[[0.1, true], [0.2, 0.8]]",
        "[[0.1], [0.2, 0.8]]",
        "[[0.1, 0.2, 0.7], [0.2, 0.8]]",
        "[[0.2, 0.8]]",
        "[]",
        "null",
        "[0.1, 0.9]",
        "[[[0.1, 0.9]], [0.2, 0.8]]",
        "[[1e308, -1e308], [0.2, 0.8]]",
    ],
)
def test_scores_that_are_no_numbers_fail_their_solution(
    rows: str, remote: RemoteRewardModel, pooling: RewardServer
) -> None:
    content = f'{{"data": [{{"data": {rows}}}]}}'.encode()
    pooling.fault = lambda number, body: (200, {}, content) if number == 0 else None
    solutions = [Solution((), tuple(STEPS[:2])), Solution((), tuple(STEPS[1:]))]
    scores, _, cost = remote.score_steps(QUESTION, solutions, CacheRows.none(2))
    (given,) = (each for each in scores if not isinstance(each, ServerError))
    assert len(given) == 2 and all(map(math.isfinite, given)) and cost.failed_particles == 1
    pooling.fault = lambda number, body: (200, {}, content)
    with pytest.raises(ServerError, match=f"{pooling.url[:-3]}/pooling gave no answer"):
        remote.score(QUESTION, STEPS[:2])


@pytest.mark.parametrize("convention", ["rlhflow", "versa", "math-shepherd"])
def test_pairs_of_labels_are_read_from_the_next_token(
    convention: str,
    reward_server: RewardServer,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    own = tokenizers_of(tokenizer)[convention]
    reward_server.network = model_of(convention, own)
    local = RewardModel(reward_server.network, own, convention)
    saved(local, tmp_path)
    remote = RemoteRewardModel(reward_server.url, "markov", convention, tokenizer=str(tmp_path))
    assert remote.score(QUESTION, STEPS) == pytest.approx(local.score(QUESTION, STEPS), abs=1e-5)
    remote.close()


def test_what_a_server_cannot_score_is_named(
    pooling: RewardServer, policy_folder: Path, reward_folder: Path
) -> None:
    with pytest.raises(InputError, match="log-probabilities of named tokens"):
        RemoteRewardModel(pooling.url, convention="rlhflow", tokenizer=str(policy_folder))
    with pytest.raises(InputError, match="labels, not values"):
        RemoteRewardModel(pooling.url, convention="pure", tokenizer=str(reward_folder))
    pooling.options = {}
    with pytest.raises(InputError, match="--runner pooling"):
        RemoteRewardModel(pooling.url, tokenizer=str(reward_folder))


def test_blank_steps_and_long_solutions_are_refused(remote: RemoteRewardModel) -> None:
    with pytest.raises(InputError, match="blank step"):
        remote.score(QUESTION, [" "])
    remote.context_length = 20
    with pytest.raises(InputError, match="does not fit"):
        remote.score(QUESTION, STEPS)
    assert not remote.fits(QUESTION, tuple(STEPS))
