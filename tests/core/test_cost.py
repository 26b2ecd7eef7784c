import pytest

from llmsmc.core.cost import Cost
from llmsmc.errors import ServerError


def test_costs_add_up_but_peaks_do_not() -> None:
    one = Cost(generated_tokens=3, model_calls=1, seconds=0.5, peak_memory_bytes=10)
    two = Cost(generated_tokens=4, seconds=1.0, peak_memory_bytes=7)
    assert one + two == Cost(generated_tokens=7, model_calls=1, seconds=1.5, peak_memory_bytes=10)
    assert (one + two) - two == one
    assert Cost() + one == one


@pytest.mark.parametrize(
    ("messages", "failures"),
    [
        ([], {}),
        (["400, no"], {"400, no": 1}),
        (["400, no 1", "400, no 2", "400, no 17"], {"400, no 1": 3}),
        (["down", "400, no", "down"], {"down": 2, "400, no": 1}),
        (["no 'a' at \"b\"", "no 'c' at \"d\""], {"no 'a' at \"b\"": 2}),
        (["odd. Got None", "odd. Got 3; accepted: x"], {"odd. Got None": 2}),
        (["", ""], {"": 2}),
    ],
)
def test_failures_are_counted_by_kind(messages: list[str], failures: dict[str, int]) -> None:
    errors = [ServerError(message) for message in messages]
    whole = Cost.of_failures(errors)
    assert whole == Cost(failed_particles=len(messages), failures=failures)
    for cut in range(len(errors) + 1):
        first, rest = Cost.of_failures(errors[:cut]), Cost.of_failures(errors[cut:])
        assert first + rest == whole
        left = whole - first
        assert left.failed_particles == sum(left.failures.values()) == len(errors) - cut
        assert first + left == whole
