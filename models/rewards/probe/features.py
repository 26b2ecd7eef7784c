"""What a policy says of the steps of solutions, in files: one a question.

It is recorded while the policy writes the solutions, or read of them later, which takes as long
again; both come to the same, up to the rounding of other batches. A file belongs to the solutions
of its question, the layers and the policy, and says so by a digest: whatever else lies there is not
used.

Hidden states are pooled over steps before they are kept: the mean of projected states is the
projected mean. So files hold a few vectors a step and layer, whichever directions are chosen.

Shapes: N solutions, L tokens, M steps of all of them, F features of a token, W width of the hidden
states of all layers.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import torch
from jaxtyping import Float, Float64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from llmsmc.errors import InputError
from llmsmc.models.caches.rows import padded_rows
from llmsmc.models.policies.fingerprint import fingerprints
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.rewards.probe.pooling import NAMES, POOLS, pooled
from llmsmc.models.rewards.probe.readouts import RawReadout
from llmsmc.storage.strict_files import unwritable

_LAYERS: Final = 4
_NAME, _SUFFIX = 16, ".safetensors"  # of a file, the length of its name
_DIGEST: Final = "solutions"  # the entry of the metadata of a file


class TokenSteps(NamedTuple):
    """The steps of a solution, in tokens.

    Attributes:
        token_ids: the tokens of the solution.
        step_ends: the number of them up to the end of each step.
        given: how many of the steps are not its own, but another solution's, of which nothing is
            kept here.
    """

    token_ids: Sequence[int]
    step_ends: Sequence[int]
    given: int = 0

    @property
    def num_own(self) -> int:
        """The number of steps of its own."""
        return len(self.step_ends) - self.given


@dataclass(frozen=True, eq=False)
class StepFeatures:
    """What a policy says of steps.

    Attributes:
        known: the numbers of `llmsmc.models.rewards.probe.pooling.NAMES`, in single precision.
        states: the hidden states, pooled as in `pooled`; in half precision, or in single precision
            where they are beyond its range.
    """

    known: Float[Tensor, "M 14"]
    states: Float[Tensor, "M pools W"]

    @classmethod
    def pooled(
        cls,
        features: Float[Tensor, "N L F"],
        log_probs: Float64[Tensor, "N L"],
        solutions: Sequence[TokenSteps],
    ) -> "StepFeatures":
        """Return what was read at each token, pooled over the steps, solution after solution.

        Args:
            features: what a `RawReadout` has read at each token.
            log_probs: of the tokens at temperature 1.
            solutions: their steps; those that are not their own are left out.
        """
        bounds, lengths = padded_rows([(0, *each.step_ends) for each in solutions])
        places = torch.arange(bounds.shape[1] - 1)
        counted = places < lengths[:, None] - 1
        known, states = pooled(features, log_probs, bounds, counted)
        own = counted & (places >= torch.tensor([each.given for each in solutions])[:, None])
        return cls(known[own], _halved(states[own]))

    @classmethod
    def joined(cls, parts: Sequence["StepFeatures"]) -> "StepFeatures":
        """Return the steps of all parts, one part after the other."""
        known, states = [each.known for each in parts], [each.states for each in parts]
        return cls(torch.cat(known), torch.cat(states))

    def split(self, counts: Sequence[int]) -> list["StepFeatures"]:
        """Return the steps of each solution, of which these are the numbers."""
        sizes = list(counts)
        parts = zip(torch.split(self.known, sizes), torch.split(self.states, sizes), strict=True)
        return [StepFeatures(*part) for part in parts]


class FeatureFolder:
    """The files of what a policy says of steps.

    Attributes:
        path: the folder, which is made with the first file.
        policy: the policy.
        readout: what is read of it at each token.
    """

    def __init__(
        self, path: Path, policy: LanguageModel, layers: Sequence[int] | None = None
    ) -> None:
        """Open a folder.

        Args:
            path: the folder.
            policy: the policy.
            layers: the numbers of the layers whose hidden states are read, 0 for the embeddings; by
                default four from the first quarter to the last.

        Raises:
            InputError: the policy has no such layers.
        """
        self.path, self.policy = path, policy
        width = policy.model.config.get_text_config().hidden_size
        self.readout = RawReadout(layers_of(policy, layers), width)
        weights = json.dumps(fingerprints(policy.model), sort_keys=True)
        self._read = [list(self.readout.layers), weights, str(policy.model.dtype)]

    def file(self, prompt_ids: Sequence[int]) -> Path:
        """Return the file of the question that a prompt asks."""
        return self.path / f"{_hash(list(prompt_ids))[:_NAME]}{_SUFFIX}"

    def load(
        self, prompt_ids: Sequence[int], solutions: Sequence[TokenSteps]
    ) -> StepFeatures | None:
        """Return what is kept of the steps of all solutions of a question.

        None if the file is missing, broken, or of something else: other solutions, other layers or
        another policy.
        """
        num_steps, readout = sum(each.num_own for each in solutions), self.readout
        shapes = [
            (num_steps, len(NAMES)),
            (num_steps, len(POOLS), readout.width * len(readout.layers)),
        ]
        try:
            with safe_open(self.file(prompt_ids), framework="pt") as opened:
                if (opened.metadata() or {}).get(_DIGEST) != self._digest(prompt_ids, solutions):
                    return None
                found = StepFeatures(opened.get_tensor("known"), opened.get_tensor("states"))
        except (OSError, SafetensorError):
            return None
        return found if [found.known.shape, found.states.shape] == shapes else None

    def save(
        self, prompt_ids: Sequence[int], solutions: Sequence[TokenSteps], found: StepFeatures
    ) -> None:
        """Keep what was read of the steps of all solutions of a question.

        Raises:
            InputError: the file cannot be written; the one that was there stays as it is.
        """
        tensors = {"known": found.known.contiguous(), "states": found.states.contiguous()}
        content = save(tensors, {_DIGEST: self._digest(prompt_ids, solutions)})
        path = self.file(prompt_ids)
        partial = path.with_suffix(".partial")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def take_over(self, other: Path) -> None:
        """Take over the files of another folder; those that are here already stay.

        Files are only ever replaced, so that both folders may have the same one.

        Raises:
            InputError: they cannot be read, or cannot be written here.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for source in sorted(other.glob(f"{'?' * _NAME}{_SUFFIX}")):
                target = self.path / source.name
                if not target.exists():
                    _take(source, target)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _digest(self, prompt_ids: Sequence[int], solutions: Sequence[TokenSteps]) -> str:
        told = [
            [list(each.token_ids), list(each.step_ends), *[each.given] * (each.given > 0)]
            for each in solutions
        ]
        return _hash([list(prompt_ids), told, *self._read])


def _take(source: Path, target: Path) -> None:
    """Let a file stand in another place, too."""
    try:
        target.hardlink_to(source)
    except OSError:  # on another disk, or one without links
        partial = target.with_suffix(".partial")
        shutil.copyfile(source, partial)
        partial.replace(target)


def layers_of(policy: LanguageModel, layers: Sequence[int] | None) -> tuple[int, ...]:
    """Return the layers that are read of a policy; see `FeatureFolder`.

    Raises:
        InputError: the policy has no such layers.
    """
    depth = policy.model.config.get_text_config().num_hidden_layers
    if layers is None:
        return tuple(sorted({math.ceil(depth * part / _LAYERS) for part in range(1, _LAYERS + 1)}))
    if not layers or any(type(each) is not int or not 0 <= each <= depth for each in layers):
        raise InputError(
            f"layers are numbers of layers of the policy. Got {list(layers)}; accepted: numbers "
            f"from 0 (the embeddings) to {depth}."
        )
    return tuple(layers)


def _halved(states: Float[Tensor, "M pools W"]) -> Float[Tensor, "M pools W"]:
    """Return the states in half precision, unless that cannot express them."""
    half = states.half()
    return half if bool(half.isfinite().all()) else states


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
