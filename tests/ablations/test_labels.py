from typing import Any

from llmsmc.ablations.labels import labels


def cell(series: str, **values: Any) -> dict[str, Any]:
    return {"series": series, "algorithm": "bootstrap", **values}


def test_what_differs_within_a_series_is_named() -> None:
    cells = [
        cell("filter", particles=4),
        cell("filter", particles=8),
        cell("majority", particles=8),
    ]
    assert labels(cells) == ["filter, particles 4", "filter, particles 8", "majority"]


def test_what_an_axis_tells_is_not_named() -> None:
    cells = [cell("filter", particles=n, temperature=t) for n in (4, 8) for t in (0.5, 1.0)]
    of_four, of_eight = "filter, particles 4", "filter, particles 8"
    assert labels(cells, ["temperature"]) == [of_four, of_four, of_eight, of_eight]


def test_nor_what_goes_along_with_it() -> None:
    cells = [cell("filter", particles=n, budget=n) for n in (4, 8)]
    assert labels(cells, ["budget", None]) == ["filter", "filter"]
