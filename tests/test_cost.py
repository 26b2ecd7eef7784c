from llmsmc.cost import Cost


def test_costs_add_up_but_peaks_do_not() -> None:
    one = Cost(generated_tokens=3, model_calls=1, seconds=0.5, peak_memory_bytes=10)
    two = Cost(generated_tokens=4, seconds=1.0, peak_memory_bytes=7)
    assert one + two == Cost(generated_tokens=7, model_calls=1, seconds=1.5, peak_memory_bytes=10)
    assert (one + two) - two == one
    assert Cost() + one == one
