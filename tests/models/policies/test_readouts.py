"""What is read while several requests write stays in its place, and belongs to each of them."""

from itertools import count

import pytest
import torch

from llmsmc.evaluation.datasets import sample_problem
from llmsmc.models import LanguageModel
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.decoding.requests import StepRequest, StepTokens, UniformTable
from llmsmc.models.policies.decoding.step_batch import StepBatch
from llmsmc.models.rewards.probe.readouts import RawReadout
from llmsmc.models.text.stopping import Delimiter


@pytest.fixture(scope="module")
def policy() -> LanguageModel:
    return LanguageModel.from_pretrained("minimath-policy-small")


def request(policy: LanguageModel, number: int, readout: RawReadout | None) -> StepRequest:
    size = number % 3 + 2
    return StepRequest(
        policy.prompt_ids(sample_problem(number % 5 + 1, number).question),
        torch.zeros((size, 0), dtype=torch.long),
        torch.zeros(size, dtype=torch.long),
        CacheRows.none(size),
        rule=Delimiter("\n\n"),
        max_tokens=40,
        temperature=1.0,
        uniforms=UniformTable(size, torch.Generator().manual_seed(number)),
        readout=readout,
    )


def drawn(
    policy: LanguageModel, waits: dict[int, int], readouts: dict[int, RawReadout | None]
) -> tuple[dict[int, StepTokens], set[int]]:
    """Draw the steps of requests, each of which joins after so many tokens."""
    batch, found, places = StepBatch(policy), dict[int, StepTokens](), set[int]()
    requests = {number: request(policy, number, readouts[number]) for number in waits}
    for token in count():
        joining = [requests[number] for number, wait in waits.items() if wait == token]
        if joining:
            batch.join(joining)
        for answered, answer in batch.advance() if batch.requests else ():
            assert not isinstance(answer, Exception)
            (number,) = (n for n, each in requests.items() if each is answered)
            found[number] = answer[0]
        places.add(batch._features.data_ptr())
        if len(found) == len(waits):
            return found, places
    raise AssertionError


def test_what_is_read_is_each_requests_own_whoever_joins_and_leaves(policy: LanguageModel) -> None:
    width = policy.model.config.get_text_config().hidden_size
    wide, narrow = RawReadout((0, 1), width), RawReadout((1,), width)
    readouts = {0: wide, 1: None, 2: narrow, 3: wide}
    together, _ = drawn(policy, {0: 0, 1: 3, 2: 5, 3: 9}, readouts)
    for number, tokens in together.items():
        alone, _ = drawn(policy, {number: 0}, readouts)
        assert torch.equal(tokens.token_ids, alone[number].token_ids)
        if readouts[number] is None:
            assert tokens.features is None
            continue
        read = alone[number].features
        assert tokens.features is not None and read is not None
        inside = torch.arange(tokens.token_ids.shape[1]) < tokens.num_tokens[:, None]
        torch.testing.assert_close(tokens.features[inside], read[inside])


def test_what_is_read_is_not_copied_when_others_join_and_leave(policy: LanguageModel) -> None:
    width = policy.model.config.get_text_config().hidden_size
    readout = RawReadout((0, 1), width)
    waits = {n: 2 * n for n in range(24)}
    _, places = drawn(policy, waits, dict.fromkeys(waits, readout))
    # It grows a few times by doubling, however many join, and is given back at the end.
    assert len(places) <= 12
