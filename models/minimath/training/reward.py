"""Recipe of the reward models: a network that computes, layers on top that compare.

To check a step is to compute it, then to compare. The lower layers come from a policy and do the
first: they go on learning to predict the right next token, as long as the solution is right; the
labels move them little, which would blunt what they know. The layers on top have the computed value
at hand one position on, where they see the written one; the first of them is taught to tell how
much it surprises the lower ones, minus the log-probability of the token that is there. Labels stand
at every token, "all is right so far", and count once more at the markers, which are all that is
read in the end.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, smooth_l1_loss
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Qwen2ForCausalLM

from llmsmc.core.randomness import seeded_globally
from llmsmc.models.minimath.checker import num_correct_steps
from llmsmc.models.minimath.problem import Problem
from llmsmc.models.minimath.tokenizer import STEP_MARKER, SYSTEM_PROMPT
from llmsmc.models.minimath.training.corpus import (
    IGNORED,
    Batches,
    Example,
    Mixture,
    encode,
    prompt_ids,
    token_id,
)
from llmsmc.models.minimath.world.arithmetic import Calculator, Exact, Misconceived, Rates
from llmsmc.models.rewards.conventions.prm_head import Qwen2ForProcessRewardModel

ERRORFUL = Rates(
    carry=(0.6, 0.4), borrow=(0.6, 0.4), product=(0.55, 0.3), quotient=(0.5, 0.3), slip=0.1
)
"""Rates for the beginning: about as many wrong one-step solutions as right ones."""

LARGEST_SURPRISE = 5.0
"""Nats; beyond that a token is simply wrong."""

GROUND_GRADIENT = 0.2
"""Share of the gradient of labels and surprise that reaches the lower layers."""

EXACT = 0.25
"""Share of solutions without any error, from which the lower layers learn most."""

LATE = 0.5
"""Share of the others that are right up to a step drawn evenly. A filter keeps right solutions, so
that it asks about steps behind many right ones; solutions drawn freely go wrong early."""


@dataclass
class Late:
    """A calculator that is right `num_right` times, and then calculates as another one."""

    calculator: Calculator
    num_right: int

    def calculate(self, sign: str, left: int, right: int) -> int:
        """Return `left sign right`, as long as it is right."""
        self.num_right -= 1
        calculator = Exact() if self.num_right >= 0 else self.calculator
        return calculator.calculate(sign, left, right)

    def confuses(self, misconception: str) -> bool:
        """Return whether a misconception about method strikes here."""
        return self.num_right <= 0 and self.calculator.confuses(misconception)


def new_reward_model(
    policy: Qwen2ForCausalLM, extra_layers: int, seed: int
) -> Qwen2ForProcessRewardModel:
    """Return a reward model that starts from a policy's embeddings and layers.

    The layers on top begin as the identity: their outputs are zero.
    """
    settings = policy.config.to_dict()
    for derived in ("layer_types", "architectures", "num_labels", "id2label", "label2id"):
        settings.pop(derived, None)
    settings["num_hidden_layers"] += extra_layers
    config = type(policy.config)(**settings)
    config.num_labels = 2
    with seeded_globally(seed):
        model = Qwen2ForProcessRewardModel(config)
    missing, _ = model.model.load_state_dict(policy.model.state_dict(), strict=False)
    assert all(name.startswith("layers.") for name in missing)
    with torch.no_grad():
        for layer in model.model.layers[policy.config.num_hidden_layers :]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return model


@torch.no_grad()
def read_alike(model: PreTrainedModel, token_id: int, other_id: int) -> None:
    """Let a token that a model has never seen begin as another one, whose place it takes."""
    embeddings = model.get_input_embeddings().weight
    assert isinstance(embeddings, Tensor)
    embeddings[token_id] = embeddings[other_id]


def labelled(tokenizer: PreTrainedTokenizerBase, problem: Problem, steps: Sequence[str]) -> Example:
    """Return one solution in the layout of the reward model, with its labels.

    Returns:
        Token ids; whether all is right up to and with each token (1, 0, or ignored in the
        prompt); and the token that rightly comes there, as long as all before it is right.
    """
    marker = token_id(tokenizer, STEP_MARKER)
    ids = prompt_ids(tokenizer, problem.question, SYSTEM_PROMPT)
    right, due = [IGNORED] * len(ids), [IGNORED] * len(ids)
    num_correct = num_correct_steps(problem, steps)
    reference = problem.solution()
    for index, step in enumerate(steps):
        written = [*encode(tokenizer, step), marker]
        if index < num_correct:
            right += [1] * len(written)
            due += written
        elif index > num_correct:
            right += [0] * len(written)
            due += [IGNORED] * len(written)
        else:
            expected = encode(tokenizer, reference[index]) if index < len(reference) else []
            pairs = enumerate(zip(written, expected, strict=False))
            agreed = min(len(written), len(expected))
            first = next((k for k, (a, b) in pairs if a != b), agreed)
            right += [1] * first + [0] * (len(written) - first)
            due += [*written[:first], *expected[first : first + 1]] or [IGNORED]
            due += [IGNORED] * (len(written) - first - 1)
        ids += written
    return ids, right, due


def synthetic_examples(
    tokenizer: PreTrainedTokenizerBase, mixture: Mixture, rates: Rates
) -> Callable[[Random, float], Example]:
    """Return a draw of solutions with misconceptions: many errors at first, later `rates`."""

    def draw(random: Random, progress: float) -> Example:
        problem = mixture.draw(random, progress)
        errorful = random.random() < max(0.2, 0.7 - 1.5 * progress)
        calculator: Calculator = Misconceived(random, ERRORFUL if errorful else rates)
        if random.random() < LATE:
            calculator = Late(calculator, random.randrange(len(problem.solution())))
        steps = problem.solution(Exact() if random.random() < EXACT else calculator)
        return labelled(tokenizer, problem, _cut(random, problem, steps))

    return draw


def sampled_examples(
    tokenizer: PreTrainedTokenizerBase, samples: Sequence[tuple[Problem, Sequence[str]]]
) -> Callable[[Random, float], Example]:
    """Return a draw of the policy's own samples."""

    def draw(random: Random, progress: float) -> Example:
        problem, steps = samples[random.randrange(len(samples))]
        return labelled(tokenizer, problem, _cut(random, problem, steps))

    return draw


def inattentive_examples(
    tokenizer: PreTrainedTokenizerBase, mixture: Mixture, rates: Rates
) -> Callable[[Random, float], Example]:
    """Return a draw of solutions in which a digit, a letter or a name is replaced by another.

    A policy makes such errors too, of any kind and any size, and a reward model that knows the
    misconceptions alone overlooks them.
    """

    def draw(random: Random, progress: float) -> Example:
        problem = mixture.draw(random, progress)
        calculator: Calculator = Misconceived(random, rates)
        if random.random() < LATE:
            calculator = Exact()
        steps = list(problem.solution(calculator))
        # Where all is right as yet, since an error behind another one teaches nothing.
        index = random.randrange(min(len(steps), num_correct_steps(problem, steps) + 1))
        steps[index] = _miswritten(random, steps[index], problem.question)
        return labelled(tokenizer, problem, _cut(random, problem, steps))

    return draw


KINDS = (r"\d", r"(?<![A-Za-z])[a-z](?![a-z])", r"[A-Z][a-z]{2}(?![a-z])")
"""The kinds of slips: digits, letters that stand for numbers, names."""


def _miswritten(random: Random, step: str, question: str) -> str:
    """Return the step with one digit, letter or name replaced by another one of the question."""
    found = [(kind, match) for kind in KINDS for match in re.finditer(kind, step)]
    if not found:
        return step
    kind, match = random.choice(found)
    others = list("0123456789") if kind == KINDS[0] else sorted(set(re.findall(kind, question)))
    others = [other for other in others if other != match[0]] or [match[0]]
    return step[: match.start()] + random.choice(others) + step[match.end() :]


def _cut(random: Random, problem: Problem, steps: Sequence[str]) -> Sequence[str]:
    """Stop soon after the first error, four times in five: later steps teach little."""
    if random.random() < 0.2:
        return steps
    return steps[: num_correct_steps(problem, steps) + random.randint(1, 3)]


@dataclass(frozen=True)
class Losses:
    """Weights of the parts of the objective."""

    token: float = 1.0
    marker: float = 1.0
    language: float = 1.0
    surprise: float = 0.5


@dataclass
class TokenKept:
    """Cross-entropy of the right next token, and how badly the token itself can be read.

    The last layer of a language model has forgotten what it has read and knows what comes; a layer
    on top that is to compare both needs both.
    """

    model: Qwen2ForCausalLM
    batches: Batches

    def __post_init__(self) -> None:
        """Add the layer that reads the token."""
        width = self.model.config.hidden_size
        self.probe = self.model.probe = nn.Linear(width, width)

    def __call__(self, update: int) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of an update, and its parts."""
        batch = self.batches[update]
        ids, right, due = (t.to(self.model.device) for t in (batch.token_ids, *batch.labels))
        with torch.autocast(self.model.device.type, dtype=torch.bfloat16):
            hidden = self.model.model(ids).last_hidden_state
            here = right[:, 1:] != IGNORED
            words = self.model.lm_head(hidden[:, :-1][here]).float()
            read = self.probe(hidden[:, 1:][here]).float()
        written = self.model.model.embed_tokens.weight.detach()[ids[:, 1:][here]]
        written = (written - written.mean(0)) / written.var(0).mean().sqrt()
        language = cross_entropy(words, due[:, 1:][here], ignore_index=IGNORED)
        kept = mse_loss(read, written)
        figures = {"language": float(language.detach()), "kept": float(kept.detach())}
        return language + kept, {**figures, "tokens": float(ids.numel())}


@dataclass
class StepLabels:
    """Cross-entropy of labels and of the right next token; error of the surprise told.

    Attributes:
        model: the reward model.
        batches: batches of `labelled` examples.
        marker_id: the token at which scores are read.
        language_layer: the number of layers after which the next token is predicted.
        weights: the weights of the parts.
    """

    model: Qwen2ForProcessRewardModel
    batches: Batches
    marker_id: int
    language_layer: int
    weights: Losses

    def __post_init__(self) -> None:
        """Add a layer for the training alone, as a part of the model that is saved with it."""
        self.surprise = self.model.surprise = nn.Linear(self.model.config.hidden_size, 1)
        upper = self.model.model.layers[self.language_layer]
        self._brake = upper.register_forward_pre_hook(_braked)

    def release(self) -> None:
        """Remove the parts that are there for the training alone."""
        self._brake.remove()
        del self.model.surprise

    def __call__(self, update: int) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of an update, its parts, and the share of markers judged rightly."""
        batch = self.batches[update]
        device = self.model.device
        ids, right, due = (t.to(device) for t in (batch.token_ids, *batch.labels))
        with torch.autocast(device.type, dtype=torch.bfloat16):
            output = self.model.model(ids, output_hidden_states=True)
            labelled = right != IGNORED
            logits = self.model.score(output.last_hidden_state[labelled]).float()
            # What the lower layers predict at the position before each labelled token.
            lower, middle = output.hidden_states[self.language_layer : self.language_layer + 2]
            here = labelled[:, 1:]
            before = self.model.model.norm(lower[:, :-1][here])
            words = nn.functional.linear(before, self.model.model.embed_tokens.weight).float()
            told = self.surprise(middle[:, 1:][here]).float().squeeze(-1)
        labels, wanted, written = right[labelled], due[:, 1:][here], ids[:, 1:][here]
        marked = ids[labelled] == self.marker_id
        felt = cross_entropy(words.detach(), written, reduction="none").clamp(max=LARGEST_SURPRISE)
        parts = {
            "token": cross_entropy(logits, labels),
            "marker": cross_entropy(logits[marked], labels[marked]),
            "language": cross_entropy(words, wanted, ignore_index=IGNORED),
            "surprise": smooth_l1_loss(told, felt),
        }
        loss: Any = sum(getattr(self.weights, name) * part for name, part in parts.items())
        hits = (logits[marked].argmax(-1) == labels[marked]).float().mean()
        figures = {name: float(part.detach()) for name, part in parts.items()}
        return loss, {**figures, "accuracy": float(hits), "tokens": float(ids.numel())}


def _braked(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Hand a layer its input, through which only a part of the gradient goes back."""
    states = inputs[0]
    share = GROUND_GRADIENT * states + (1 - GROUND_GRADIENT) * states.detach()
    return (share, *inputs[1:])
