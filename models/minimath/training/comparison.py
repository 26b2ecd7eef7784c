r"""A layer that starts out comparing the written token with the expected one.

The layers below are those of a language model: with $\hat h_{i-1}$ their normalised output one
position before, and $E$ the embeddings, the logit of the token $x_i$ that follows is
$\hat h_{i-1} \cdot E_{x_i}$. That a layer on top computes it can be arranged by hand, for r
directions $U$ in which the embeddings differ most:

* attention looks one position back, by its biases alone: under rotary positions a constant query
  and key give the score $\sum_f \cos(\theta_f (\Delta - 1))$ at distance $\Delta$;
* its values are $U^T \hat h$, written into directions of the residual stream that are hardly used;
* pairs of gated units multiply, since $\text{silu}(a) b - \text{silu}(-a) b = a b$: one factor is
  what attention has brought, the other $U^T E_{x_i}$, read from the residual stream by least
  squares;
* the sum of the products goes into one more direction that is hardly used.

Found by gradients alone this took a network of this size thousands of updates, if it was found.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from llmsmc.models.minimath.training.corpus import IGNORED, Example
from llmsmc.models.rewards.conventions.prm_head import Qwen2ForProcessRewardModel

NUM_FREQUENCIES = 6
"""Of the highest ones, which tell one position from the next."""

SHARPNESS = 10.0
"""Nats between the position before and any other."""

LOUDNESS = 0.7
"""The size of the output of attention, relative to the residual stream."""

RIDGE = 1e-3


@torch.no_grad()
def compare_first(
    model: Qwen2ForProcessRewardModel, layer: int, examples: Sequence[Example]
) -> None:
    """Set the weights of a layer so that it compares; the layers below stay as they are.

    Args:
        model: the reward model, whose layers before number `layer` are a language model's.
        layer: the one that is set.
        examples: some texts, from whose labelled tokens directions and regressions are taken.
    """
    network, block = model.model, model.model.layers[layer]
    config = model.config
    num_written = int(config.num_key_value_heads or config.num_attention_heads)
    head_dim = config.hidden_size // config.num_attention_heads
    group = config.num_attention_heads // num_written
    num_read = num_written * head_dim
    states, before, ids = _states(model, layer, examples)
    embeddings = network.embed_tokens.weight.double()
    # Directions in which the tokens that occur differ most.
    counts = ids.bincount(minlength=len(embeddings)).double().sqrt()
    weighted = counts[:, None] * (embeddings - embeddings[ids].mean(0))
    directions = torch.linalg.svd(weighted, full_matrices=False)[2][:num_read].T
    block.input_layernorm.weight.copy_(network.norm.weight)
    _look_back(block.self_attn, head_dim, _angles(config, head_dim))
    block.self_attn.v_proj.weight.copy_(directions.T)
    block.self_attn.v_proj.bias.zero_()
    # Where the residual stream varies least there is room to write.
    spare = torch.linalg.eigh(torch.cov(states.T))[1]
    room, result = spare[:, :num_read], spare[:, num_read]
    normed = before * before.square().mean(1, keepdim=True).rsqrt() * network.norm.weight.double()
    brought = normed @ directions
    loudness = LOUDNESS * (states.square().sum(1).mean() / brought.square().sum(1).mean()).sqrt()
    output = torch.zeros_like(block.self_attn.o_proj.weight)
    for head in range(num_written):
        columns = slice(head * group * head_dim, head * group * head_dim + head_dim)
        output[:, columns] = loudness * room[:, head * head_dim : (head + 1) * head_dim]
    block.self_attn.o_proj.weight.copy_(output)
    after = states + loudness * brought @ room.T
    scaled = after * after.square().mean(1, keepdim=True).rsqrt()
    block.post_attention_layernorm.weight.fill_(1.0)
    expected = _regression(scaled, brought)
    written = _regression(scaled, (embeddings - embeddings[ids].mean(0))[ids] @ directions)
    _multiply(block.mlp, expected, written, result, states, scaled)


def _states(
    model: Qwen2ForProcessRewardModel, layer: int, examples: Sequence[Example]
) -> tuple[Float64[Tensor, "L d"], Float64[Tensor, "L d"], Int64[Tensor, " L"]]:
    """Return the residual stream below the layer at labelled tokens and before, and the tokens."""
    states, before, tokens = list[Tensor](), list[Tensor](), list[Tensor]()
    for token_ids, labels, *_ in examples:
        ids = torch.tensor([token_ids], device=model.device)
        stream = model.model(ids, output_hidden_states=True).hidden_states[layer][0].double()
        here = torch.tensor(labels)[1:] != IGNORED
        states.append(stream[1:][here])
        before.append(stream[:-1][here])
        tokens.append(ids[0, 1:][here])
    return torch.cat(states), torch.cat(before), torch.cat(tokens)


def _angles(config: Any, head_dim: int) -> Float64[Tensor, " f"]:
    """Return by how much each pair of coordinates turns from one position to the next."""
    base = float(config.rope_parameters["rope_theta"])
    exponents = torch.arange(0, head_dim, 2).double() / head_dim
    return base**-exponents


def _look_back(attention: nn.Module, head_dim: int, angles: Float64[Tensor, " f"]) -> None:
    """Make all heads attend to the position before, whatever stands where."""
    used = angles[:NUM_FREQUENCIES]
    distances = torch.arange(-1, 2000).double()
    scores = torch.cos(distances[:, None] * used).sum(1)
    margin = float(scores[1] - scores[[0, *range(2, len(scores))]].max())
    size = math.sqrt(SHARPNESS * math.sqrt(head_dim) / margin)
    half = head_dim // 2
    key, query = torch.zeros(head_dim).double(), torch.zeros(head_dim).double()
    key[:NUM_FREQUENCIES] = size
    query[:NUM_FREQUENCIES] = size * used.cos()
    query[half : half + NUM_FREQUENCIES] = -size * used.sin()
    for name, bias in (("q_proj", query), ("k_proj", key)):
        linear = attention.get_submodule(name)
        linear.get_parameter("weight").zero_()
        target = linear.get_parameter("bias")
        target.copy_(bias.repeat(len(target) // head_dim))


def _multiply(
    mlp: nn.Module,
    left: Float64[Tensor, "r d"],
    right: Float64[Tensor, "r d"],
    result: Float64[Tensor, " d"],
    states: Float64[Tensor, "L d"],
    scaled: Float64[Tensor, "L d"],
) -> None:
    """Make the gated units add the products of `left` and `right` into the direction `result`."""
    gate, up, down = (
        mlp.get_submodule(name).get_parameter("weight")
        for name in ("gate_proj", "up_proj", "down_proj")
    )
    size = len(left)
    # In units of one, so that the gates are neither shut nor wide open.
    left = left / (scaled @ left.T).std()
    right = right / (scaled @ right.T).std()
    products = ((scaled @ left.T) * (scaled @ right.T)).sum(1)
    loudness = states.square().mean().sqrt() / products.std()
    gate[:size], gate[size : 2 * size] = left.to(gate.dtype), -left.to(gate.dtype)
    up[:size], up[size : 2 * size] = right.to(up.dtype), right.to(up.dtype)
    down.zero_()
    column = (loudness * result).to(down.dtype)[:, None]
    down[:, :size], down[:, size : 2 * size] = column, -column


def _regression(
    inputs: Float64[Tensor, "L d"], outputs: Float64[Tensor, "L r"]
) -> Float64[Tensor, "r d"]:
    """Return the weights, without intercept, that give the outputs best from the inputs."""
    gram = inputs.T @ inputs / len(inputs)
    gram = gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weights: Tensor = torch.linalg.solve(gram, inputs.T @ outputs / len(inputs)).T
    return weights
