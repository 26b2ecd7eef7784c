"""The output embeddings are multiplied with the positions that are kept, as one matrix."""

import pytest
import torch

from llmsmc.models import LanguageModel
from llmsmc.models.caches.row_cache import RowCache
from llmsmc.models.pretrained.packing import unpack


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("num_logits", [1, 2, 7])
def test_a_part_of_the_positions_is_one_matrix(num_logits: int, dtype: str) -> None:
    """Of a network that was packed, and has been given its plain layers back, as well."""
    policy = LanguageModel.from_pretrained("minimath-policy-small", dtype=dtype)
    unpack(policy.model)
    seen = list[tuple[torch.Size, bool]]()
    head = policy.model.lm_head
    head.register_forward_pre_hook(
        lambda _, inputs: seen.append((inputs[0].shape, inputs[0].is_contiguous()))
    )
    with torch.no_grad():
        ids = torch.arange(3 * 7).reshape(3, 7)
        rows = RowCache(3, device=policy.device)
        logits, states = policy.forward(rows, ids, None, num_logits, reads=True)
        expected = policy.model(ids, use_cache=False).logits[:, -num_logits:]
        assert seen[0] == (torch.Size([3, num_logits, head.in_features]), True)
        assert torch.equal(logits, head(states[-1].contiguous()))
    atol = 1e-4 if dtype == "float32" else 0.25
    torch.testing.assert_close(logits, expected, rtol=0, atol=atol)
