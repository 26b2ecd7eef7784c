"""The table of the paper's claims in the documentation, from the reports of the ablations.

python -m benchmarks.claims            # rewrites the page
python -m benchmarks.claims --check    # fails if the page has another table
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.page import replaced
from llmsmc.ablations.page import read_reports, summary_of

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "claims.md"
REPORTS: Final = PAGE.parent / "ablations"
BEGIN, END = "<!-- claims -->", "<!-- end of the claims -->"


def with_claims(text: str) -> str:
    """Return the text of the page with the table that the present reports make."""
    return replaced(text, summary_of(read_reports(REPORTS), REPORTS.name), BEGIN, END)


def main(arguments: Sequence[str] | None = None) -> None:
    """Rewrite the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    text = PAGE.read_text(encoding="utf-8")
    made = with_claims(text)
    if given.check:
        sys.exit(f"{PAGE.name} has another table of claims." if made != text else 0)
    PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
