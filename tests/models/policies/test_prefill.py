"""The output embeddings are multiplied with the positions that are kept, as one matrix."""

import pytest
import torch

from llmsmc.models import LanguageModel
from llmsmc.models.caches.row_cache import RowCache


@pytest.mark.parametrize("num_logits", [1, 2])
def test_a_part_of_the_positions_is_one_matrix(num_logits: int) -> None:
    policy = LanguageModel.from_pretrained("minimath-policy-small")
    seen = list[tuple[torch.Size, bool]]()
    head = policy.model.lm_head
    head.register_forward_pre_hook(
        lambda _, inputs: seen.append((inputs[0].shape, inputs[0].is_contiguous()))
    )
    with torch.no_grad():
        ids = torch.arange(3 * 7).reshape(3, 7)
        logits, _ = policy.forward(RowCache(3, device=policy.device), ids, None, num_logits)
        expected = policy.model(ids, use_cache=False).logits[:, -num_logits:]
    assert seen[0] == (torch.Size([3, num_logits, head.in_features]), True)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
