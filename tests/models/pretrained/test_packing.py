"""Packed linear layers give the numbers of plain ones, and the same weights back."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from llmsmc.models.caches.prefix_cache import PrefixCache
from llmsmc.models.caches.row_cache import RowCache
from llmsmc.models.policies.fingerprint import fingerprints
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.pretrained.packing import PackedLinear, is_packable, pack, unpack
from llmsmc.models.pretrained.precision import computes_in_bfloat16
from llmsmc.training.classifier import Classifier

pytestmark = pytest.mark.skipif(
    not computes_in_bfloat16(), reason="this processor does not multiply in bfloat16"
)
POLICY = "minimath-policy-small"


@pytest.fixture
def packed() -> LanguageModel:
    return LanguageModel.from_pretrained(POLICY, dtype="bfloat16")


@pytest.fixture
def plain() -> LanguageModel:
    model = LanguageModel.from_pretrained(POLICY, dtype="bfloat16")
    unpack(model.model)
    return model


def _layer(out: int = 96, width: int = 80, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(width, out, bias, dtype=torch.bfloat16).requires_grad_(False)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1,), (7,), (64,), (200,), (5, 3), (2, 0)])
def test_products_are_the_same_bit_for_bit(shape: tuple[int, ...], bias: bool) -> None:
    layer = _layer(bias=bias)
    rows = torch.randn(*shape, 80).bfloat16()
    with torch.no_grad():
        assert torch.equal(PackedLinear(layer)(rows), layer(rows))


def test_a_part_of_the_positions_is_multiplied_as_it_lies() -> None:
    layer, rows = _layer(), torch.randn(6, 4, 80).bfloat16()
    with torch.no_grad():
        assert torch.equal(PackedLinear(layer)(rows[:, -1:]), layer(rows[:, -1:].contiguous()))


def test_the_weights_come_back() -> None:
    layer = _layer()
    again = PackedLinear(layer).unpacked()
    assert torch.equal(again.weight, layer.weight) and torch.equal(again.bias, layer.bias)
    assert not PackedLinear(layer.eval()).unpacked().weight.requires_grad


def test_gradients_pass_through_to_what_was_fed() -> None:
    layer = _layer()
    rows = torch.randn(3, 80).bfloat16()
    found = list[torch.Tensor]()
    for each in (layer, PackedLinear(layer)):
        fed = rows.clone().requires_grad_()
        each(fed).float().square().sum().backward()
        assert fed.grad is not None
        found.append(fed.grad)
    assert torch.equal(*found) and bool(found[0].any())


def test_only_plain_layers_in_bfloat16_are_packed() -> None:
    class Other(nn.Linear):
        pass

    assert is_packable(_layer())
    assert not is_packable(_layer().float())
    assert not is_packable(Other(4, 4, dtype=torch.bfloat16))
    assert not is_packable(nn.Linear(4, 4, dtype=torch.bfloat16, device="meta"))
    assert not is_packable(nn.Embedding(4, 4, dtype=torch.bfloat16))


def test_a_policy_in_bfloat16_is_packed_and_one_in_single_precision_is_not(
    packed: LanguageModel,
) -> None:
    layers = [each for each in packed.model.modules() if isinstance(each, PackedLinear)]
    assert len(layers) >= 7 * packed.model.config.num_hidden_layers
    assert not packed.model.get_input_embeddings().weight.is_mkldnn
    single = LanguageModel.from_pretrained(POLICY, dtype="float32")
    assert not any(isinstance(each, PackedLinear) for each in single.model.modules())


def test_a_packed_policy_is_the_plain_one(packed: LanguageModel, plain: LanguageModel) -> None:
    assert fingerprints(packed.model) == fingerprints(plain.model)
    names = [[name for name, _ in each.model.named_parameters()] for each in (packed, plain)]
    assert names[0] == names[1]
    prompt = packed.prompt_ids("What is 2 + 3?")
    ids = list(range(10, 30))
    assert torch.equal(packed.log_probs(prompt, ids), plain.log_probs(prompt, ids))


def test_unpacking_ties_what_was_tied(plain: LanguageModel) -> None:
    network: Any = plain.model
    first, last = network.get_input_embeddings(), network.get_output_embeddings()
    assert isinstance(last, nn.Linear)
    assert (first.weight is last.weight) == plain.model.config.tie_word_embeddings


def test_shared_beginnings_are_kept_for_packed_weights_until_others_come() -> None:
    network = nn.Sequential(_layer(80), _layer(80))
    pack(network)
    rows = PrefixCache(network, lambda ids: RowCache(1))
    assert [rows.row((1, 2))[1] for _ in range(2)] == [True, False]
    network[0] = PackedLinear(_layer(80))
    assert rows.row((1, 2))[1]


def test_a_classifier_is_trained_on_plain_weights(packed: LanguageModel, tmp_path: Path) -> None:
    classifier = Classifier(packed, rank=0, seed=0)
    assert not any(isinstance(each, PackedLinear) for each in packed.model.modules())
    classifier.save(tmp_path)
    kinds = itertools.chain(tmp_path.glob("*.safetensors"), tmp_path.glob("config.json"))
    assert {each.name for each in kinds} == {"model.safetensors", "config.json"}
