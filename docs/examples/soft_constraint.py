"""Rather be brief: a likelihood that is a function of the text."""

import torch

from llmsmc.inference import BootstrapFilter
from llmsmc.models import LanguageModel, Reasoning

QUESTION = "Let a = 7 + 4 * 2. Let b = a - 9. What is b?"


class Brief(Reasoning):
    """The target is p(x) exp(-length / 20), the length in characters."""

    def log_tilt(self, state):
        lengths = [len(particle.text) for particle in state]
        return -torch.tensor(lengths, dtype=torch.float64) / 20


if __name__ == "__main__":
    model = Brief(LanguageModel.from_pretrained("minimath-policy"), None, QUESTION)
    posterior = BootstrapFilter(64).run(model, seed=0)
    print(posterior, posterior.answers(), posterior.best().text, sep="\n")
