"""The tree, the build and the names agree; imports point one way."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import grimp
import pytest
from markdown_it import MarkdownIt

import llmsmc
import llmsmc.inference
import llmsmc.models
import llmsmc.models.rewards.conventions

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

packages = pytest.mark.parametrize(
    "package",
    [llmsmc, llmsmc.models, llmsmc.models.rewards.conventions, llmsmc.inference],
    ids=lambda package: package.__name__,
)


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="an sdist has folders in place of links")
def test_links_lead_to_the_folders() -> None:
    for name in ("models", "inference"):
        link = ROOT / "llmsmc" / name
        assert link.is_symlink() and link.resolve() == ROOT / name


def test_the_page_on_the_package_index_has_no_link_that_leads_nowhere() -> None:
    page = (ROOT / "README.md").read_text()
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        page = re.sub(rule["pattern"], rule["replacement"], page)
    tokens = [token for block in MarkdownIt().parse(page) for token in block.children or ()]
    links = [
        str(token.attrs[key]) for token in tokens for key in ("href", "src") if key in token.attrs
    ]
    assert links and all(link.startswith("https://") for link in links)
    assert "Quickstart explains" in page and "](docs" not in page


def test_import_names() -> None:
    assert llmsmc.models.__name__ == "llmsmc.models"
    assert "models" not in sys.modules and "inference" not in sys.modules


@packages
def test_every_exported_name_exists(package: ModuleType) -> None:
    assert package.__all__ == sorted(set(package.__all__))
    for name in package.__all__:
        value = getattr(package, name)
        assert getattr(value, "__name__", name) == name
        assert name in dir(package)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = package.Nothing


@packages
def test_type_checkers_see_the_exported_names(package: ModuleType) -> None:
    """The imports under TYPE_CHECKING are those of the table, name by name."""
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text())
    seen = {}
    for block in (node for node in tree.body if isinstance(node, ast.If)):
        for statement in block.body:
            assert isinstance(statement, ast.ImportFrom)
            for alias in statement.names:
                assert alias.name == alias.asname
                seen[alias.name] = statement.module
    assert sorted(seen) == package.__all__
    for name, module in seen.items():
        assert module is not None
        assert getattr(importlib.import_module(module), name) is getattr(package, name)


def test_importing_the_library_imports_nothing_heavy() -> None:
    code = "import sys, llmsmc, llmsmc.models, llmsmc.inference; print(*sys.modules)"
    assert not {"torch", "numpy", "pyro", "transformers"} & set(python(code).split())


def test_the_version_is_that_of_the_build() -> None:
    project = PROJECT["project"]
    assert llmsmc.__version__ == project["version"]
    assert project["version"] in (ROOT / "CHANGELOG.md").read_text()


def test_imports_point_one_way() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_nobody_imports_the_folders_by_their_own_name() -> None:
    for path in [*ROOT.glob("*/**/*.py")]:
        if any(part.startswith(".") for part in path.relative_to(ROOT).parts):
            continue  # environments
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.split(".")[0] not in ("models", "inference"), (path, name)


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("llmsmc", exclude_type_checking_imports=False)
    packages = {name for name in graph.modules if graph.find_children(name)}  # their names are lazy
    left = graph.modules - packages
    needs = {name: graph.find_modules_directly_imported_by(name) for name in left}
    while ground := {name for name in left if not needs[name] & left}:
        left -= ground
    assert not left
