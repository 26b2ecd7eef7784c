"""Sets of questions on the Hugging Face hub, read through the package `datasets` (extra `eval`)."""

from dataclasses import dataclass
from typing import Any, Final

from llmsmc.core.extras import optional
from llmsmc.errors import InputError


@dataclass(frozen=True)
class HubSet:
    """Where a set lies: repository, configuration, split, and how many questions it has."""

    name: str
    repository: str
    split: str
    num_examples: int
    configuration: str | None = None

    def __call__(self) -> list[dict[str, Any]]:
        """Return the rows of the set, from the hub or from the cache of an earlier download.

        Raises:
            MissingExtraError: the package is not installed.
            InputError: the set cannot be read.
        """
        package = optional("datasets", extra="eval", purpose=f"The data set {self.name}")
        try:
            rows = package.load_dataset(self.repository, self.configuration, split=self.split)
            found = [dict(row) for row in rows]
        except Exception as error:  # of the network, the hub, the cache or the files
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise InputError(
                f"The data set cannot be read from the hub ({reason}). Got {self.name!r}, which is "
                f"{self.repository} there; accepted: a connection to the hub, what an earlier "
                "download has left, or a local copy by --dataset-file."
            ) from error
        if len(found) != self.num_examples:
            raise InputError(
                f"{self.name} has {self.num_examples} questions. Got {len(found)} from "
                f"{self.repository}; accepted: the set as it was published, or any set at all by "
                "--dataset-file."
            )
        return found


MATH500: Final = HubSet("math500", "HuggingFaceH4/MATH-500", "test", 500)
AIME24: Final = HubSet("aime24", "HuggingFaceH4/aime_2024", "train", 30)
AIME25: Final = HubSet("aime25", "math-ai/aime25", "test", 30)
GSM8K: Final = HubSet("gsm8k", "openai/gsm8k", "test", 1319, "main")
