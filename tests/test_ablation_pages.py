"""The pages of the ablations are those that their reports make."""

from pathlib import Path

from llmsmc.ablations.page import index_of, page_text, read_reports

PAGES = Path(__file__).resolve().parent.parent / "docs" / "ablations"


def test_pages_and_figures_belong_to_their_reports() -> None:
    reports = read_reports(PAGES)
    for name, report in reports.items():
        assert page_text(report, name) == (PAGES / f"{name}.md").read_text(), name
        assert (PAGES / f"{name}.svg").is_file(), name
        assert f"--page docs/ablations/{name}.md" in report["command"], name
    if reports:
        assert index_of(reports) == (PAGES / "index.md").read_text()
