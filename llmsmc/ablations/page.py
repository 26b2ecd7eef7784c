"""The page of an ablation in Markdown, written from its report; and the table of all of them.

Texts of plans and models are plain text on it: they make no link, load no image, and everything in
them is visible. Code between backticks is the only Markdown in them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from llmsmc.ablations import drawing
from llmsmc.ablations.comparing import ComparisonReport, Verdict
from llmsmc.ablations.figures import MIN_IN_BIN
from llmsmc.ablations.intervals import percent_with_error
from llmsmc.ablations.report import Report
from llmsmc.core.counted import counted
from llmsmc.errors import InputError
from llmsmc.storage.characters import one_line, printable
from llmsmc.storage.json_files import read_document, unwritable, write_json

INDEX = "index.md"


# As references to characters, which Markdown of every kind takes as text.
_SIGNS: Final = str.maketrans({sign: f"&#{ord(sign)};" for sign in r"\`*_[]{}<>&$|~"})
# Signs that turn a bare address, of a site or of a person, into a link.
_ADDRESS: Final = re.compile(r"(?<=:)/(?=/)|(?<=\bwww)\.|@(?=[\w-]+\.\w)", re.IGNORECASE)
_CODE: Final = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
# Signs that open another block than a paragraph: a heading, an item, a rule, an admonition.
_OPENING: Final = re.compile(
    r"^[ \t]*(\d*)(#|[=:!?^](?=[\s=:!?^]|$)|[-+](?=[\s-]|$)|(?<=\d)[.)](?=\s|$)|)", re.MULTILINE
)


def write_page(report: Report, path: Path) -> None:
    """Write the page, with the figure and the report beside it, and the table of all pages there.

    Raises:
        InputError: they cannot be written.
    """
    write_json(path.with_suffix(".json"), report)
    try:
        drawing.save(report, path.with_suffix(".svg"))
        path.write_text(page_text(report, path.stem), encoding="utf-8")
        index_text = index_of(read_reports(path.parent))
        (path.parent / INDEX).write_text(index_text, encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from error


def read_reports(folder: Path) -> dict[str, Report]:
    """Return the reports beside the pages of a folder, by the names of the pages.

    Raises:
        InputError: a file is no report.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = read_document(path, Report)
        except (OSError, ValueError) as error:
            raise InputError(
                f"A report is JSON, as it was written. Got {str(path)!r}: {error}. Accepted: a "
                "folder that has no other files of that kind."
            ) from error
    return found


def page_text(report: Report, stem: str) -> str:
    """Return the page of a report, whose figure is the file `stem`.svg."""
    parts = [
        f"# {_cell(report['title'] or report['name'])}",
        _section("The claim", _prose(_claim(report))),
        _section("Caution", _prose(report["caution"])),
        _section("Whether it holds here", _verdicts(report)),
        _section("Figures", f"{_figure(report, stem)}\n\n{_figures(report)}"),
        _section("In the paper", _published(report["published"])),
        _section("How it was run", _conditions(report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def index_of(reports: dict[str, Report]) -> str:
    """Return the table of claims: the figures of the paper, the figures here, and the verdict."""
    rows = [
        [
            f"[{_cell(report['title'] or name)}]({quote(name)}.md)",
            _cell(each["claim"]),
            _cell(each["published"]),
            _difference(each, each["metric"]),
            _cell(each["verdict"]),
        ]
        for name, report in reports.items()
        for each in report["comparisons"]
    ]
    head = ["ablation", "claim", "in the paper", "here: difference and 95 % interval", "verdict"]
    return (
        "# Ablations\n\nEach page is written by the command that it names, from the results that "
        "the command has run.\n\n" + _table(head, rows) + "\n"
    )


def summary_of(reports: dict[str, Report], folder: str) -> str:
    """Return a shorter table: claims of which the paper has figures, else one of each ablation."""
    rows = [
        [
            f"[{_cell(each['claim'])}]({folder}/{quote(name)}.md)",
            _cell(each["published"]) or "not in the paper",
            _difference(each, each["metric"]),
            _cell(each["verdict"]),
        ]
        for name, report in reports.items()
        for each in _headlines(report)
    ]
    return _table(["claim", "published", "here: difference and 95 % interval", "verdict"], rows)


def _headlines(report: Report) -> list[ComparisonReport]:
    published = [each for each in report["comparisons"] if each["published"]]
    return published or report["comparisons"][:1]


def _claim(report: Report) -> str:
    where = f" ({report['figure']})" if report["figure"] else ""
    return f"{report['claim']}{where}" if report["claim"] else ""


def _verdicts(report: Report) -> str:
    if not report["comparisons"]:
        return ""
    rows = [
        [
            _cell(c["claim"]),
            _cell(c["published"]),
            _difference(c, c["metric"]),
            _rule(c),
            _cell(c["verdict"]),
        ]
        for c in report["comparisons"]
    ]
    head = ["claim", "in the paper", "here: difference and 95 % interval", "holds if", "verdict"]
    details = [
        [_cell(p["left"]), _cell(p["right"]), _ratio(p["tokens"]), _difference(p, c["metric"])]
        + [_cell(p["verdict"])]
        for c in report["comparisons"]
        for p in c["pairs"]
        if len(c["pairs"]) > 1
    ]
    text = f"All in all: **{_cell(report['verdict'])}**.\n\n{_table(head, rows)}"
    if details:
        title = ["left", "right", "tokens, left for one of right", "difference", "verdict"]
        text += f"\n\nThe same, pair by pair:\n\n{_table(title, details)}"
    return text


def _figures(report: Report) -> str:
    head = ["cell", "N", "runs", "accuracy, %", "P(right), %", "log score", "calibration error"]
    head += ["tokens", "model calls", "seconds", "failed"]
    rows = []
    for cell in report["cells"]:
        f = cell["figures"]
        if f is None:
            rows.append([_cell(cell["label"]), "", "0", *[""] * (len(head) - 3)])
            continue
        rows.append(
            [
                _cell(cell["label"]),
                str(cell["algorithm"].get("num_particles", 1)),
                str(f["num_runs"]) + ("" if cell["complete"] else ", not all"),
                percent_with_error(f["accuracy"], f["standard_error"], f["num_problems"]),
                percent_with_error(
                    f["probability_correct"], f["probability_correct_error"], f["num_problems"]
                ),
                _number(f["log_score"], f["log_score_error"]),
                "" if f["calibration_error"] is None else f"{f['calibration_error']:.3f}",
                f"{f['generated_tokens']:,.0f}",
                f"{f['model_calls']:,.0f}",
                f"{f['seconds']:.2f}",
                str(f["num_errors"]),
            ]
        )
    return _table(head, rows)


def _published(published: dict[str, Any]) -> str:
    if not published:
        return ""
    rows = [[_cell(str(entry)) for entry in row] for row in published["rows"]]
    caption = _prose(published.get("caption", ""))
    return f"{caption}\n\n{_table([_cell(str(c)) for c in published['columns']], rows)}".strip()


def _conditions(report: Report) -> str:
    total, versions = report["total"], report["versions"]
    seeds = ", ".join(str(seed) for seed in report["seeds"])
    lines = [
        _block(report["command"]),
        f"The first {report['problems']} problems of {_code(report['dataset'])}, seeds {seeds}: "
        f"{counted(total['num_runs'], 'run')}, "
        f"{counted(total['generated_tokens'], 'token')} generated, "
        f"{total['seconds'] / 60:,.0f} minutes of computing. Errors are standard errors over "
        "problems, the seeds of a problem averaged; differences are paired, on the same problems "
        "and seeds. Runs that failed count as wrong. Bars and curves of the figure: ± one standard "
        f"error; of the calibration, shares of at least {MIN_IN_BIN} runs.",
        "With " + ", ".join(f"{name} {_cell(version)}" for name, version in versions.items()) + ".",
    ]
    if report["failures"]:
        lines.append("Failed:")
        lines.append(
            "\n".join(
                f"- {_cell(f['cell'])}, {_cell(f['id'])}, seed {f['seed']}: {_cell(f['error'])}"
                for f in report["failures"]
            )
        )
    return "\n\n".join(lines)


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text.strip()}" if text.strip() else ""


def _difference(c: Verdict, metric: str) -> str:
    values = [each for each in (c["difference"], c["low"], c["high"]) if each is not None]
    if not values:
        return "nothing to compare"
    if metric == "log_score":
        return "{:+.2f} ({:+.2f} to {:+.2f})".format(*values)
    return "{:+.1f} ({:+.1f} to {:+.1f}) points".format(*(100 * value for value in values))


def _rule(c: ComparisonReport) -> str:
    margin = f"{c['margin']:g}" if c["metric"] == "log_score" else f"{100 * c['margin']:g} points"
    if c["rule"] == "equal":
        return f"the interval is within {margin} of 0"
    bound = margin if c["rule"] == "greater" else f"-{margin}"
    return f"the interval is above {bound if c['margin'] else '0'}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _number(value: float | None, error: float | None) -> str:
    return "-" if value is None else " ± ".join(f"{x:.2f}" for x in _known(value, error))


def _known(*values: float | None) -> list[float]:
    return [value for value in values if value is not None]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Return text as it can stand in a line, and in a cell of a table."""
    return _prose(one_line(text))


def _prose(text: str) -> str:
    """Return text in which nothing is Markdown but paragraphs, and code between backticks."""
    pieces = _CODE.split(printable(text))
    pieces[::2] = [_ADDRESS.sub(_sign, piece.translate(_SIGNS)) for piece in pieces[::2]]
    pieces[1::2] = [_code(piece) for piece in pieces[1::2]]
    return _OPENING.sub(_closed, "".join(pieces))


def _code(text: str) -> str:
    """Return code as it can stand in a line, and in a cell of a table."""
    line = one_line(text)
    if re.search(r"[`|\\$]", line):
        return line.translate(_SIGNS)
    return f"`{line}`"


def _block(text: str) -> str:
    """Return a block of shell, in a fence that is longer than all that the text has."""
    code = printable(text)
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", code))])
    return f"{fence}sh\n{code}\n{fence}"


def _figure(report: Report, stem: str) -> str:
    return f"![{_cell(report['title'])}]({quote(stem)}.svg)"


def _sign(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"


def _closed(opening: re.Match[str]) -> str:
    number, sign = opening.groups()
    return f"{number}&#{ord(sign)};" if sign else number
