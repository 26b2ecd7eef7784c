"""No reward model at all: a language model that trusts what it finds probable itself."""

from dataclasses import dataclass

from llmsmc.inference import BootstrapFilter
from llmsmc.models import LanguageModel, Reasoning

QUESTION = "Let a = 7 + 4 * 2. Let b = a - 9. What is b?"


@dataclass(frozen=True, eq=False)
class Confident(Reasoning):
    """The target is p(x) times p(x) to the power of `trust`."""

    trust: float = 1.0

    def log_tilt(self, state):
        return self.trust * state.log_probs.sum(1)


if __name__ == "__main__":
    model = Confident(LanguageModel.from_pretrained("minimath-policy"), None, QUESTION, trust=2.0)
    posterior = BootstrapFilter(64).run(model, seed=0)
    print(posterior, posterior.answers(), posterior.best().text, sep="\n")
