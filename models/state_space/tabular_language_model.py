r"""A language model small enough to know everything about it: tables over all prefixes.

The next token has the law $p(v \mid x_{1:t-1})$, read from a table, and every prefix a potential
$G_t(x_{1:t})$, read from another, so that the target and its normalising constant

$$\gamma(x_{1:L}) = \prod_{t=1}^{L} p(x_t \mid x_{1:t-1}) \, G_t(x_{1:t}), \qquad
Z = \sum_x \gamma(x)$$

are functions and sums over finitely many sequences: the oracle against which algorithms are held.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Generator, Tensor

from llmsmc.core.state_space_model import Observations, StateSpaceModel, Truncated
from llmsmc.errors import InputError

PAD = -1
"""What stands in a row of tokens behind the end of the sequence."""


class TabularLanguageModel(StateSpaceModel):
    """Sequences of up to T tokens out of V; a token EOS, if there is one, ends a sequence early.

    A state is the sequence so far: token ids `[N, T]`, padded with `PAD`. The tables are indexed
    by the code of a prefix, the number that its tokens spell in base V.

    Attributes:
        log_transitions: T tables `[V**t, V]`, t = 0..T-1: the law of the token after t tokens.
        log_potentials: T tables `[V**t]`, t = 1..T: log G_t.
        eos: the token that ends a sequence; None if all sequences have T tokens.
    """

    def __init__(
        self, transitions: Sequence[Any], potentials: Sequence[Any], *, eos: int | None = None
    ) -> None:
        """Create the model from T tables of probabilities and T tables of potentials G_t >= 0."""
        probabilities = [torch.as_tensor(table, dtype=torch.float64) for table in transitions]
        factors = [torch.as_tensor(table, dtype=torch.float64) for table in potentials]
        _check_tables(probabilities, factors, eos)
        self.max_steps: int = len(probabilities)
        self.vocab_size = probabilities[0].shape[-1]
        self.log_transitions = [table.log() for table in probabilities]
        self.log_potentials = [table.log() for table in factors]
        self.eos = eos

    @classmethod
    def from_functions(
        cls,
        vocab_size: int,
        max_length: int,
        *,
        next_token: Callable[[tuple[int, ...]], Sequence[float]],
        potential: Callable[[tuple[int, ...]], float],
        eos: int | None = None,
    ) -> "TabularLanguageModel":
        """Create the model from functions of a prefix; they see no prefix that goes on after EOS.

        >>> def certain(prefix):
        ...     return [0.5, 0.5] if not prefix else [1.0, 0.0]
        >>> model = TabularLanguageModel.from_functions(
        ...     2, 3, next_token=certain, potential=lambda prefix: 0.5
        ... )
        >>> round(model.log_evidence(), 4)  # three factors of 1/2
        -2.0794
        """
        anything = [1.0] + [0.0] * (vocab_size - 1)
        transitions, potentials = [], []
        level: list[tuple[int, ...]] = [()]
        for _ in range(max_length):
            transitions.append([anything if eos in p else next_token(p) for p in level])
            level = [(*prefix, token) for prefix in level for token in range(vocab_size)]
            potentials.append([1.0 if eos in p[:-1] else potential(p) for p in level])
        return cls(transitions, potentials, eos=eos)

    # The state-space model

    def sample_initial(self, num_particles: int, *, generator: Generator) -> Int64[Tensor, "N T"]:
        """Draw the first token."""
        return self.sample_transition(0, self._empty(num_particles), generator=generator)

    def sample_transition(
        self, t: int, previous: Int64[Tensor, "N T"], *, generator: Generator
    ) -> Int64[Tensor, "N T"]:
        """Draw token number t."""
        law = self.log_transitions[t][self._codes(previous, t)].exp()
        return _append(previous, t, law.multinomial(1, generator=generator)[:, 0])

    def mode_initial(self, num_particles: int) -> Int64[Tensor, "N T"]:
        """Return the most probable first token."""
        return self.mode_transition(0, self._empty(num_particles))

    def mode_transition(self, t: int, previous: Int64[Tensor, "N T"]) -> Int64[Tensor, "N T"]:
        """Return the most probable token number t."""
        return _append(previous, t, self.log_transitions[t][self._codes(previous, t)].argmax(1))

    def finished(self, state: Int64[Tensor, "N T"]) -> Bool[Tensor, " N"]:
        """Return which sequences have ended: with EOS, or, where there is none, at length T."""
        return state[:, -1] != PAD if self.eos is None else (state == self.eos).any(1)

    def log_likelihood(self, t: int, previous: Any, state: Int64[Tensor, "N T"], y: Any) -> Tensor:
        """Return log G of the first t + 1 tokens; there is nothing to observe."""
        return self.log_potentials[t][self._codes(state, t + 1)]

    def path_log_likelihood(
        self, t: int, state: Int64[Tensor, "N T"], observations: Observations | None
    ) -> Tensor:
        """Return the sum of log G over all prefixes of the sequences, up to t + 1 tokens."""
        total = torch.zeros(len(state), dtype=torch.float64)
        for s in range(t + 1):
            log_potential = self.log_potentials[s][self._codes(state, s + 1)]
            total = total + torch.where(state[:, s] != PAD, log_potential, 0.0)
        return total

    def num_steps(self, state: Int64[Tensor, "N T"]) -> Int64[Tensor, " N"]:
        """Return how many tokens each sequence has."""
        return (state != PAD).sum(1)

    def rewind(
        self, state: Int64[Tensor, "N T"], num_steps: Int64[Tensor, " N"]
    ) -> Int64[Tensor, "N T"]:
        """Return the first `num_steps[n]` tokens of each sequence."""
        return state.masked_fill(torch.arange(state.shape[1]) >= num_steps[:, None], PAD)

    def splice(
        self, state: Int64[Tensor, "N T"], t: int, references: Int64[Tensor, "N T"]
    ) -> Int64[Tensor, "N T"]:
        """Return the first t tokens of each sequence, and then those of its reference."""
        return torch.cat([state[:, :t], references[:, t:]], dim=1)

    # The exact answers

    def paths(self) -> Int64[Tensor, "P T"]:
        """Return all sequences that can be drawn, those cut off at length T among them."""
        sequences = self._empty(1)
        for t in range(self.max_steps):
            ended = self.finished(sequences)
            possible = self.log_transitions[t][self._codes(sequences, t)] > -torch.inf
            parents, tokens = (possible & ~ended[:, None]).nonzero(as_tuple=True)
            sequences = torch.cat([sequences[ended], _append(sequences[parents], t, tokens)])
        return sequences

    def log_prior(self, sequences: Int64[Tensor, "P T"]) -> Float64[Tensor, " P"]:
        """Return log p(x) of each sequence."""
        total = torch.zeros(len(sequences), dtype=torch.float64)
        for t in range(self.max_steps):
            token = sequences[:, t : t + 1]
            law = self.log_transitions[t][self._codes(sequences, t)]
            total = total + torch.where(token != PAD, law.gather(1, token.clamp(min=0)), 0.0)[:, 0]
        return total

    def log_target(
        self, sequences: Int64[Tensor, "P T"], *, truncated: Truncated = "keep"
    ) -> Float64[Tensor, " P"]:
        """Return log gamma(x) of each sequence; `-inf` if it is cut off and so to be rejected."""
        likelihood = self.path_log_likelihood(self.max_steps - 1, sequences, None)
        log_target = self.log_prior(sequences) + likelihood
        rejected = self.truncated(sequences) if truncated == "reject" else torch.tensor(False)
        return log_target.masked_fill(rejected, -torch.inf)

    def log_evidence(
        self,
        observations: Observations | None = None,
        *,
        truncated: Truncated = "keep",
    ) -> float:
        """Return log Z exactly; there is nothing to observe."""
        return float(self.log_target(self.paths(), truncated=truncated).logsumexp(0))

    def posterior(self, *, truncated: Truncated = "keep") -> dict[tuple[int, ...], float]:
        """Return the exact law of the sequences, without padding: `{tokens: probability}`."""
        sequences = self.paths()
        probabilities = self.log_target(sequences, truncated=truncated).softmax(0)
        return {
            tuple(token for token in tokens if token != PAD): probability
            for tokens, probability in zip(sequences.tolist(), probabilities.tolist(), strict=True)
        }

    def _empty(self, num_sequences: int) -> Int64[Tensor, "N T"]:
        return torch.full((num_sequences, self.max_steps), PAD)

    def _codes(self, sequences: Int64[Tensor, "N T"], length: int) -> Int64[Tensor, " N"]:
        """Return the codes of the first tokens; any number for a sequence that is shorter."""
        places = self.vocab_size ** torch.arange(length - 1, -1, -1)
        return (sequences[:, :length].clamp(min=0) * places).sum(1)


def _append(
    sequences: Int64[Tensor, "N T"], t: int, tokens: Int64[Tensor, " N"]
) -> Int64[Tensor, "N T"]:
    extended = sequences.clone()
    extended[:, t] = tokens
    return extended


def _check_tables(transitions: list[Tensor], potentials: list[Tensor], eos: int | None) -> None:
    """Raise `InputError` unless the tables make a model."""
    if not transitions or len(transitions) != len(potentials):
        raise InputError(
            "Every token has a law and a potential. Got "
            f"{len(transitions)} tables of laws and {len(potentials)} of potentials; accepted: as "
            "many of both, at least one."
        )
    size = transitions[0].shape[-1]
    for t, (law, factor) in enumerate(zip(transitions, potentials, strict=True)):
        if law.shape != (size**t, size) or factor.shape != (size ** (t + 1),):
            raise InputError(
                f"The tables of token {t} cover all prefixes. Got shapes {tuple(law.shape)} and "
                f"{tuple(factor.shape)}; accepted: {(size**t, size)} and {(size ** (t + 1),)}."
            )
        if not (law >= 0).all() or not torch.allclose(law.sum(1), torch.ones(len(law)).double()):
            raise InputError(f"The rows of the law of token {t} are no probabilities.")
        if not (factor >= 0).all() or not factor.isfinite().all():
            raise InputError(
                f"The potentials of token {t} are factors. Got some outside; accepted: finite "
                "numbers >= 0."
            )
    if eos is not None and not 0 <= eos < size:
        raise InputError(f"eos is a token. Got {eos}; accepted: None or 0 <= eos < {size}.")
