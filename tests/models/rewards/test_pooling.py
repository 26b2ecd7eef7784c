"""What is pooled of each step is what a loop over its tokens finds."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from llmsmc.models.rewards.probe.pooling import NUM_SURPRISES, POOLS, pooled


@given(st.data())
def test_states_are_those_that_a_loop_finds(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1))
    behind = data.draw(st.integers(0, 3))
    length = max(map(sum, sizes)) + behind
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    features = torch.randn((len(sizes), length, NUM_SURPRISES + 3), generator=generator)
    # Few values, so that several tokens of a step are the least probable one.
    log_probs = -torch.randint(0, 4, (len(sizes), length), generator=generator).double()
    most = max(map(len, sizes))
    counted = torch.tensor([[n < len(row) for n in range(most)] for row in sizes])
    bounds = torch.zeros((len(sizes), most + 1), dtype=torch.long)
    for row, of_row in enumerate(sizes):
        bounds[row, 1 : len(of_row) + 1] = torch.tensor(of_row).cumsum(0)
    _, states = pooled(features, log_probs, bounds, counted)
    for row, of_row in enumerate(sizes):
        hidden, start = features[row, :, NUM_SURPRISES:], 0
        for step, size in enumerate(of_row):
            end = start + size
            least = min(range(start, end), key=lambda place: float(log_probs[row, place]))  # noqa: B023
            expected = [
                hidden[start:end].mean(0),
                hidden[end - 1],
                hidden[:end].mean(0),
                hidden[least],
                hidden[min(least + 1, end - 1)],
            ]
            torch.testing.assert_close(states[row, step], torch.stack(expected))
            start = end
    assert states.shape[2] == len(POOLS)
