"""What answers in the manner of OpenAI have in common: their choices, and what was used."""

from typing import Any

from llmsmc.models.engines.engine import unreadable


def only_choice(engine: str, answer: Any) -> dict[str, Any]:
    """Return the first choice of an answer; no more than one is asked for.

    Raises:
        ServerError: it has none.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not choices or not isinstance(choices[0], dict):
        raise unreadable(engine, answer, "it has no choices")
    choice: dict[str, Any] = choices[0]
    return choice


def token_counts(answer: dict[str, Any], generated: int = 0) -> tuple[int, int, int]:
    """Return how many tokens were read, not computed since they were cached, and drawn.

    Args:
        answer: of which it is not sure that it says so.
        generated: how many were drawn if it does not say.
    """
    usage = answer.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    return (
        int(usage.get("prompt_tokens") or 0),
        int(details.get("cached_tokens") or 0),
        int(usage.get("completion_tokens") or generated),
    )
