"""What is measured, put into a page of the documentation between two markers."""

from pathlib import Path
from typing import Final

BEGIN: Final = "<!-- measured -->"
END: Final = "<!-- end of what is measured -->"


def put_into(page: Path, text: str) -> None:
    """Replace what stands between the markers of a page.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no place for tables: accepted are pages with {BEGIN}, {END}.")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
