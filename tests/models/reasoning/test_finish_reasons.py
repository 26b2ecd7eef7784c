r"""What ends a solution: its answer, and not a box that is only mentioned."""

from dataclasses import replace

import pytest
import torch

from llmsmc.inference import BootstrapFilter
from llmsmc.models import Reasoning
from llmsmc.models.reasoning.particles import ANSWER, UNFINISHED
from llmsmc.models.reasoning.step_sampling import FinishReasons
from llmsmc.models.text import stopping
from tests.models.conftest import local
from tests.models.reasoning.test_reasoning import model  # noqa: F401 - a fixture

FINISH_REASONS = FinishReasons(
    stop_at_answer=True, max_steps=None, room=100, thinking_end=None, scores=None
)


@pytest.mark.parametrize(
    ("step", "ends"),
    [
        (r"The answer is \boxed{4}.", True),
        (r"I put the answer in \boxed{}.", False),
        (r"In \boxed{...}, as \boxed{answer}.", False),
        (r"As \boxed{N}, where $N$ is the number.", False),
        (r"As asked, \boxed{\text{your answer}}: \boxed{4}", True),
        (r"So \boxed{\emptyset}", True),
        (r"\boxed 4" + "\n\n", True),
        (r"\boxed\frac12.", True),
        (r"\boxed 4", False),  # it may become 42
        (r"\boxed\fra", False),
        (r"\boxed{4", False),
        ("#### 4\n", False),
        (r"in \boxed and", False),
    ],
)
def test_what_ends_with_an_answer(step: str, ends: bool) -> None:
    reasons = torch.tensor([stopping.STOP])
    expected = [ANSWER if ends else UNFINISHED]
    assert FINISH_REASONS.codes(0, ((step,),), reasons).tolist() == expected
    thinking = replace(FINISH_REASONS, thinking_end="</think>")
    assert thinking.codes(0, ((step,),), reasons).tolist() == [UNFINISHED]


@pytest.mark.parametrize("mention", [r"\boxed{}", r"\boxed{...}", r"\boxed{answer}", r"\boxed{?}"])
def test_a_posterior_is_of_the_answer_and_not_of_a_mention(
    model: Reasoning,  # noqa: F811 - a fixture
    monkeypatch: pytest.MonkeyPatch,
    mention: str,
) -> None:
    policy = local(model.policy)
    monkeypatch.setattr(policy, "eos_ids", ())
    texts = [f"I will put the answer in {mention}.\n\n", "So it is \\boxed{4}.\n\n"]
    monkeypatch.setattr(
        policy.tokens, "decode", lambda ids, after=(): texts[min(len(after) // 2, 1)]
    )
    reward = lambda question, steps: [1.0] * len(steps)  # noqa: E731
    written = replace(model, policy=policy, reward=reward, step=2, max_steps=3)
    posterior = BootstrapFilter(num_particles=3).run(written, seed=0)
    assert posterior.answers() == {"4": pytest.approx(1.0)}
    assert [particle.finish_reason for particle in posterior.particles] == ["answer"] * 3
