"""Pages that are made of what the tree has anyway: README, CHANGELOG, CONTRIBUTING, the examples.

Links among them and the pages of docs/ lead somewhere on GitHub, where they are those of files, and
on the site, where they are rewritten.
"""

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""File of the root -> page."""

EXAMPLES = "docs/examples"

_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for source, page in PAGES.items():
        text = _LINK.sub(linked, (ROOT / source).read_text())
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "examples.md", content=examples()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links from docs/ to files of the root lead to their pages."""
    for source, page in PAGES.items():
        markdown = re.sub(rf"(?<=\]\(\.\./){source}(?=[)#])", page, markdown)
        markdown = markdown.replace(f"](../{page}", f"]({page}")
    return markdown


def linked(link: re.Match[str]) -> str:
    """Return a link of a file of the root as it is on the site, with a title for a file name."""
    text, target = link[1], link[2]
    if text == target and target.endswith(".md"):
        text = (ROOT / target).read_text().partition("\n")[0].removeprefix("# ")
    if target.rstrip("/") == EXAMPLES:
        target = "examples.md"
    return f"[{text}]({PAGES.get(target, target.removeprefix('docs/'))}"


def examples() -> str:
    """Return the page of the examples: what each does, and the whole of it."""
    parts = ["# Examples\n", "Models of text of your own, each a few lines (`docs/examples`).\n"]
    for path in sorted((ROOT / EXAMPLES).glob("*.py")):
        source = path.read_text()
        module = ast.parse(source)
        title = path.stem.replace("_", " ").capitalize()
        code = source.split('"""', 2)[2].strip()
        parts.append(f"## {title}\n\n{ast.get_docstring(module)}\n\n```python\n{code}\n```\n")
    return "\n".join(parts)
