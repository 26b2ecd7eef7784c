"""Two language models at once: texts that both find probable."""

from llmsmc.inference import BootstrapFilter
from llmsmc.models import LanguageModel, Reasoning

QUESTION = "Let a = 7 + 4 * 2. Let b = a - 9. What is b?"


class ProductOfExperts(Reasoning):
    """The target is p(x) e(x), with e the law of the expert."""

    def log_tilt(self, state):
        return self.expert_log_prob(state)


if __name__ == "__main__":
    policy = LanguageModel.from_pretrained("minimath-policy")
    expert = LanguageModel.from_pretrained("minimath-policy-small")
    model = ProductOfExperts(policy, None, QUESTION, expert=expert)
    posterior = BootstrapFilter(64).run(model, seed=0)
    print(posterior, posterior.answers(), posterior.best().text, sep="\n")
