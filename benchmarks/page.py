"""The results of a program, put into a page of the documentation between two markers."""

from pathlib import Path
from typing import Final

BEGIN: Final = "<!-- measured -->"
END: Final = "<!-- end of what is measured -->"


def put_into(page: Path, text: str) -> None:
    """Replace the measured part of a page, between its markers.

    Raises:
        ValueError: the page has no markers.
    """
    page.write_text(replaced(page.read_text(), text, BEGIN, END))


def replaced(page: str, text: str, begin: str, end: str) -> str:
    """Return the text of a page with `text` in place of what stands between two markers.

    Raises:
        ValueError: the page has no such markers.
    """
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"The page has no place for it: accepted are pages with {begin}, {end}.")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
