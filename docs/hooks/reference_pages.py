"""The pages of the reference: a section for each module, of what a package exports from it.

They are made of the imports in each `__init__.py`, so that a new name is in them without more; the
page of the command line is made of its help.
"""

import ast
import subprocess
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = {
    "llmsmc": "llmsmc",
    "llmsmc.models": "models",
    "llmsmc.inference": "inference",
    "llmsmc.testing": "testing",
}
"""Package -> name of its page."""

OTHERS = {
    "llmsmc": {
        "llmsmc.grading.extraction": ["extract_answer"],
        "llmsmc.grading.grades": ["equivalent", "grade"],
        "llmsmc.evaluation.solutions": ["read_solutions"],
    },
    "llmsmc.inference": {"llmsmc.inference.loop.loop": ["Stepwise"]},
}
"""Public names that a package leaves in their modules."""

FOR_THE_LOOP = "^(begin|step|conclude)$"
"""Methods of algorithms that nobody calls but the loop; they are shown where they are defined."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for package, page in PACKAGES.items():
        files.append(File.generated(config, f"reference/{page}.md", content=reference(package)))
    files.append(File.generated(config, "command_line.md", content=command_line()))
    return files


def reference(package: str) -> str:
    """Return the page of a package, for mkdocstrings to fill in."""
    module = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text())
    parts = [f"# `{package}`\n\n{ast.get_docstring(module)}\n"]
    others = OTHERS.get(package, {})
    for home, names in (exported(module) | others).items():
        if home in PACKAGES:  # which has a page of its own
            page = PACKAGES[home]
            listed = ", ".join(f"`{name}`" for name in names)
            parts.append(f"{listed}: see [`{home}`]({page}.md).\n")
            continue
        members = "".join(f"        - {name}\n" for name in names)
        filters = "" if home in others else f'      filters: ["!^_", "!{FOR_THE_LOOP}"]\n'
        parts.append(f"::: {home}\n    options:\n{filters}      members:\n{members}")
    return "\n".join(parts)


def exported(package: ast.Module) -> dict[str, list[str]]:
    """Return the modules that an `__init__.py` exports names of, and the names."""
    homes: dict[str, list[str]] = {}
    for block in (node for node in package.body if isinstance(node, ast.If)):
        for statement in block.body:
            assert isinstance(statement, ast.ImportFrom) and statement.module is not None
            names = [alias.name for alias in statement.names]
            homes.setdefault(statement.module, []).extend(names)
    return homes


def command_line() -> str:
    """Return the help of all commands."""
    command = [sys.executable, "-m", "typer", "llmsmc.cli", "utils", "docs", "--name", "llmsmc"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return "# Command line\n" + result.stdout.partition("\n")[2]
