"""What answers in the manner of OpenAI have in common: their choices, and what was used."""

from llmsmc.models.servers.answer import Answer, Count


class PromptDetails(Answer):
    """What is said of the tokens of a prompt."""

    cached_tokens: Count | None = None


class Usage(Answer):
    """How many tokens were read and drawn, as far as a server says so."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: PromptDetails | None = None


def token_counts(usage: Usage | None, generated: int = 0) -> tuple[int, int, int]:
    """Return how many tokens were read, not computed since they were cached, and drawn.

    Args:
        usage: of which it is not sure that it says so.
        generated: how many were drawn if it does not say.
    """
    usage = usage or Usage()
    details = usage.prompt_tokens_details or PromptDetails()
    read = usage.prompt_tokens or 0
    return read, min(details.cached_tokens or 0, read), usage.completion_tokens or generated
