r"""A probe: a reward that reads the policy while it writes.

A step is judged by what the policy has computed for it anyway: how probable its tokens were, how
sure the policy was of them, and the hidden states of several layers in the places from which they
were drawn. No second network is run, and nothing of the policy is computed again: the reward takes
no positions.

The score of a step is the probability that it is right, or that the solution ends right, given the
solution up to its end; which of both is a matter of the labels of the training.

A folder of a probe has `probe.json`, with the policy's fingerprint, and `probe.safetensors`.

Reference: Ni et al. (2025). ReProbe: efficient test-time scaling of multi-step reasoning by probing
internal states of large language models. arXiv 2511.06209. There a probe of the hidden states reads
each token; here the states are pooled over the step.

Shapes: N solutions, L tokens, K steps, F features.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence

from llmsmc.core.cost import Cost
from llmsmc.errors import InputError
from llmsmc.models.caches.rows import CacheHandle, CacheRows, padded_rows
from llmsmc.models.policies.decoding.requests import ScoreRequest
from llmsmc.models.policies.fingerprint import PARTS, fingerprints, is_same
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.rewards.own_log_prob import unread
from llmsmc.models.rewards.probe.judge import Judge
from llmsmc.models.rewards.probe.pooling import NAMES, POOLS, pooled
from llmsmc.models.rewards.probe.readouts import ProjectedReadout
from llmsmc.models.rewards.reward import (
    Memoryless,
    Reading,
    Solution,
    Steps,
    Written,
    checked_steps,
)

SETTINGS: Final = "probe.json"
WEIGHTS: Final = "probe.safetensors"
_MAX_LAYERS: Final = 2**10
_MAX_WIDTH: Final = 2**20


@dataclass(frozen=True, eq=False)
class ProbeNetwork:
    """What a probe has learnt.

    Attributes:
        readout: what it reads of the policy at each token.
        judge: from what is known of a step to its log-odds.
    """

    readout: ProjectedReadout
    judge: Judge

    def log_odds(self, written: Sequence[Written]) -> list[list[float]]:
        """Return the log-odds of each step, from the features that were read."""
        if not written:
            return []
        features = [each.features for each in written]
        read = pad_sequence([each for each in features if each is not None], batch_first=True)
        log_probs = pad_sequence([each.log_probs for each in written], batch_first=True)
        bounds, lengths = padded_rows([each.bounds for each in written])
        counts = lengths - 1
        places = torch.arange(int(counts.max()))
        counted = places < counts[:, None]
        is_ended = torch.tensor([each.is_ended for each in written])
        is_end = (places == counts[:, None] - 1) & is_ended[:, None]
        with torch.no_grad():
            known, states = pooled(read.float(), log_probs, bounds, counted)
            inputs = torch.cat([known, states.flatten(2)], dim=2).flatten(0, 1)
            found = self.judge(inputs, is_end.flatten()).view(counted.shape).double()
        return [row[:count] for row, count in zip(found.tolist(), counts.tolist(), strict=True)]


class Probe(Memoryless):
    """A reward that reads the policy while it writes.

    Attributes:
        policy: the language model that it reads.
        network: what it has learnt.
        readout: what is read of the policy at each token.
        name: where it came from.
    """

    reads_written = True
    never_zero = True

    def __init__(self, policy: LanguageModel, network: ProbeNetwork, *, name: str = "") -> None:
        """Take a probe that is loaded already; `from_pretrained` is the usual way."""
        self.policy, self.network = policy, network
        self.readout = network.readout
        self.name = name or f"probe of {policy.name}"

    @classmethod
    def from_pretrained(cls, folder: str | Path, policy: LanguageModel) -> "Probe":
        """Load a probe of a policy.

        Raises:
            InputError: the folder has no probe, or one of another policy.
        """
        settings = cls.check_folder(folder)
        if not isinstance(policy, LanguageModel):
            raise InputError(
                "A probe reads the hidden states of its policy. Got "
                f"{type(policy).__name__} {getattr(policy, 'name', '')!r}; accepted: a language "
                "model in this process."
            )
        _require_same(settings, policy, folder)
        layers, width = tuple(settings["layers"]), settings["width"]
        try:
            tensors = load_file(Path(folder) / WEIGHTS)
            centres, bases = tensors.pop("centres"), tensors.pop("bases")
            rank = settings["rank"]
            if centres.shape != (len(layers), width) or bases.shape != (len(layers), width, rank):
                raise ValueError(f"projections of shape {[*bases.shape]}")
            num_inputs = len(NAMES) + len(POOLS) * rank * len(layers)
            judge = Judge(num_inputs, settings["judge_widths"], settings["perceptrons"])
            judge.load_state_dict(tensors)
        except Exception as error:
            raise InputError(
                "The weights of the probe cannot be read. Got "
                f"{Path(folder) / WEIGHTS}: {' '.join(str(error).split())}; accepted: the file "
                f"that was saved with {SETTINGS}."
            ) from error
        readout = ProjectedReadout(layers, centres.to(policy.device), bases.to(policy.device))
        return cls(policy, ProbeNetwork(readout, judge.eval()), name=str(folder))

    @staticmethod
    def check_folder(folder: str | Path) -> dict[str, Any]:
        """Return the settings of the probe in a folder; no weights are read.

        Raises:
            InputError: there is no probe.
        """
        path = Path(folder) / SETTINGS
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            layers, widths = settings["layers"], settings["judge_widths"]
            numbers = [*layers, *widths, settings["width"], settings["rank"]]
            whole = all(type(number) is int for number in [*numbers, settings["perceptrons"]])
            bounded = whole and all(0 <= number <= _MAX_WIDTH for number in numbers)
            few = max(len(layers), len(widths)) <= _MAX_LAYERS
            if not bounded or not few or not 0 < settings["perceptrons"] < 100:
                raise ValueError("sizes that no probe has")
            if set(settings["fingerprints"]) != set(PARTS):
                raise ValueError("no fingerprints of a policy")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"There is no probe in this folder. Got {path}: {type(error).__name__}: {error}; "
                "accepted: a folder that `llmsmc train reward --method probe` has written."
            ) from error
        if not (Path(folder) / WEIGHTS).is_file():
            raise InputError(f"The probe has no weights. Got no {Path(folder) / WEIGHTS}.")
        return dict(settings)

    def save(self, folder: str | Path, **notes: Any) -> None:
        """Write the probe into a folder, with further entries of its `probe.json`."""
        path, readout = Path(folder), self.readout
        path.mkdir(parents=True, exist_ok=True)
        settings = {
            "layers": list(readout.layers),
            "width": readout.centres.shape[1],
            "rank": readout.bases.shape[2],
            "judge_widths": list(self.network.judge.widths),
            "perceptrons": len(self.network.judge.members),
            "policy": self.policy.name,
            "fingerprints": fingerprints(self.policy.model),
        }
        tensors = {"centres": readout.centres, "bases": readout.bases}
        tensors |= self.network.judge.state_dict()
        save_file({name: each.cpu().contiguous() for name, each in tensors.items()}, path / WEIGHTS)
        text = json.dumps(settings | notes, indent=2) + "\n"
        (path / SETTINGS).write_text(text, encoding="utf-8")

    def __repr__(self) -> str:
        """Show what it reads."""
        return f"Probe({self.name!r}, {self.policy!r})"

    def score(self, question: str, steps: Sequence[str]) -> list[float]:
        """Return the score of each step; the policy reads the solution in one pass.

        Raises:
            InputError: a step is blank.
        """
        solution = Solution((), checked_steps(steps))
        if not solution.new:
            return []
        ((values,), _, _) = self.score_steps(question, [solution], CacheRows.none(1))
        return torch.tensor(values, dtype=torch.float64).sigmoid().tolist()

    def check(self, question: str) -> None:
        """Raise `InputError` if the policy cannot be asked the question."""
        self.policy.prompt_ids(question)

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        """Return that there is room: the policy has written these steps."""
        return True

    def score_steps(
        self,
        question: str,
        solutions: Sequence[Solution],
        handle: CacheHandle,
        *,
        reading: Reading = "steps",
    ) -> tuple[list[list[float]], CacheHandle, Cost]:
        """Return the log-odds of the new steps; see `llmsmc.models.rewards.reward.Reward`.

        Only solutions of which something has not been read, such as those of a file, are read by
        the policy once more, which costs positions.
        """
        begun, cost = time.perf_counter(), Cost()
        rows = [n for n, solution in enumerate(solutions) if solution.new]
        written = list[Written]()
        for n in rows:
            each = solutions[n].written or unread(self.policy, question, solutions[n].steps)
            if each.features is None or bool(each.features[: each.bounds[-1]].isnan().any()):
                each, spent = self._read(each)
                cost += spent
            written.append(each)
        scores = [list[float]() for _ in solutions]
        for n, found in zip(rows, self.network.log_odds(written), strict=True):
            scores[n] = found[-1:] if reading == "prefix" else found[len(solutions[n].scored) :]
        seconds = time.perf_counter() - begun - cost.policy_seconds
        return scores, CacheRows.none(len(solutions)), cost + Cost(reward_seconds=seconds)

    def _read(self, written: Written) -> tuple[Written, Cost]:
        """Let the policy read a solution once more."""
        request = ScoreRequest(
            written.prompt_ids,
            written.token_ids[None],
            torch.tensor([len(written.token_ids)]),
            torch.zeros(1, dtype=torch.long),
            CacheRows.none(1),
            readout=self.readout,
        )
        scores, cost = LanguageModel.score_tokens(self.policy, request)
        assert scores.features is not None
        read = replace(written, log_probs=scores.log_probs[0], features=scores.features[0])
        spent = Cost(
            reward_positions=cost.policy_positions,
            model_calls=cost.model_calls,
            policy_seconds=cost.policy_seconds,
        )
        return read, spent


def _require_same(settings: dict[str, Any], policy: LanguageModel, folder: str | Path) -> None:
    """Raise `InputError` for a policy of other weights than the probe was trained for."""
    same = is_same(fingerprints(policy.model), settings["fingerprints"])
    width = policy.model.config.get_text_config().hidden_size
    if not same or width != settings["width"]:
        raise InputError(
            "A probe reads the policy that it was trained for. Got the policy "
            f"{policy.name!r} for the probe {str(folder)!r} of {settings.get('policy')!r}, with "
            "other weights; accepted: the same policy, in any precision or quantization."
        )
