"""The layer that is set up by hand compares what is written with what was expected."""

from random import Random

import pytest
import torch

from llmsmc.models.minimath.tokenizer import train_tokenizer
from llmsmc.models.minimath.training.comparison import compare_first
from llmsmc.models.minimath.training.corpus import IGNORED, Example, Mixture
from llmsmc.models.minimath.training.policy import Size, new_policy
from llmsmc.models.minimath.training.reward import new_reward_model, synthetic_examples
from llmsmc.models.minimath.world.arithmetic import Rates
from llmsmc.models.rewards.conventions.prm_head import Qwen2ForProcessRewardModel

LAYER = 2


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    tokenizer, random = train_tokenizer(0, num_problems=200), Random(0)
    draw = synthetic_examples(tokenizer, Mixture(), Rates())
    return [draw(random, 0.0) for _ in range(60)]


@pytest.fixture(scope="module")
def model(examples: list[Example]) -> Qwen2ForProcessRewardModel:
    tokenizer = train_tokenizer(0, num_problems=200)
    size = Size(hidden=96, intermediate=288, layers=LAYER, heads=6, key_value_heads=2)
    judge = new_reward_model(new_policy(size, tokenizer, seed=0), 2, seed=0)
    judge.train(False)
    compare_first(judge, LAYER, examples[:40])
    judge.set_attn_implementation("eager")
    return judge


def test_attention_looks_one_position_back(
    model: Qwen2ForProcessRewardModel, examples: list[Example]
) -> None:
    ids = torch.tensor([examples[50][0]])
    with torch.no_grad():
        attention = model.model(ids, output_attentions=True).attentions[LAYER][0]
    assert float(attention.diagonal(offset=-1, dim1=1, dim2=2).min()) > 0.99


def test_what_is_written_is_weighed_against_what_was_expected(
    model: Qwen2ForProcessRewardModel, examples: list[Example]
) -> None:
    direction = model.model.layers[LAYER].mlp.down_proj.weight[:, 0]
    found, expected = list[torch.Tensor](), list[torch.Tensor]()
    for token_ids, labels, *_ in examples[40:]:
        ids, here = torch.tensor([token_ids]), torch.tensor(labels)[1:] != IGNORED
        with torch.no_grad():
            states = model.model(ids, output_hidden_states=True).hidden_states
        below, above = states[LAYER][0], states[LAYER + 1][0]
        law = model.model.norm(below) @ model.model.embed_tokens.weight.T
        logits = law[:-1].gather(1, ids[0, 1:, None]).squeeze(1)
        found.append((above @ direction)[1:][here].detach())
        expected.append(logits[here].detach())
    both = torch.stack([torch.cat(found), torch.cat(expected)])
    assert float(torch.corrcoef(both)[0, 1]) > 0.8


def test_the_layers_below_stay_as_they_are(examples: list[Example]) -> None:
    tokenizer = train_tokenizer(0, num_problems=200)
    size = Size(hidden=96, intermediate=288, layers=LAYER, heads=6, key_value_heads=2)
    policy = new_policy(size, tokenizer, seed=1)
    judge = new_reward_model(policy, 1, seed=0)
    compare_first(judge, LAYER, examples[:20])
    for mine, theirs in zip(judge.model.layers[:LAYER], policy.model.layers, strict=True):
        for parameter, other in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(parameter, other)
