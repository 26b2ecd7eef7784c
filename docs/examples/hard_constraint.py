"""Never write this: the language model conditioned on texts that do not contain it."""

from llmsmc.inference import BootstrapFilter, GuidedFilter
from llmsmc.models import LanguageModel, Reasoning, WithoutText

QUESTION = "Let a = 7 + 4 * 2. Let b = a - 9. What is b?"

if __name__ == "__main__":
    policy = LanguageModel.from_pretrained("minimath-policy")
    model = Reasoning(policy, None, QUESTION, constraint=WithoutText("22", "so"))
    # The bootstrap filter writes freely and throws away; the guided one never writes it, and weighs
    # each token by the probability that was left. Both have one target and one evidence.
    for algorithm in (BootstrapFilter(64), GuidedFilter(64)):
        posterior = algorithm.run(model, seed=0)
        print(posterior, posterior.answers(), posterior.best().text, sep="\n")
