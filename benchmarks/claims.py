"""The table of the paper's claims in the README, from the reports of the ablations.

python -m benchmarks.claims            # rewrites the README
python -m benchmarks.claims --check    # fails if it has another table
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.page import replaced
from llmsmc.ablations.page import read_reports, summary_of

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = "docs/ablations"
BEGIN, END = "<!-- claims -->", "<!-- end of the claims -->"


def with_claims(text: str) -> str:
    """Return the text of the README with the table of now."""
    return replaced(text, summary_of(read_reports(ROOT / FOLDER), FOLDER), BEGIN, END)


def main(arguments: Sequence[str] | None = None) -> None:
    """Rewrite the README, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    made = with_claims(text)
    if given.check:
        sys.exit("The README has another table of claims." if made != text else 0)
    readme.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
