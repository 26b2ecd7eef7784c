"""The time to start the program, and the space to install it.

    python -m benchmarks.footprint

measures the time of the processor until `llmsmc --help` has answered, the parts of the time to
import a language model, and the sizes of the package and of all its requirements without extras.
"""

import os
import re
import resource
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).resolve().parent.parent
PARTS: Final = ("llmsmc", "models", "inference")
MB: Final = 10**6
MODULE: Final = "llmsmc.models.policies.language_model"
LIMIT: Final = 0.5  # seconds until --help answers


def seconds_of(*command: str) -> float:
    """Return the time of the processor that a command takes, the best of three."""
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=ROOT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def import_shares(module: str) -> dict[str, float]:
    """Return for each top-level package its share of the time that an import takes."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    own: dict[str, int] = {}
    for line in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)", done.stderr, re.M):
        package = line[1].split(".")[0]
        own[package] = own.get(package, 0) + int(line[0])
    total = sum(own.values())
    return {name: each / total for name, each in sorted(own.items(), key=lambda pair: -pair[1])}


def required(name: str, extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """Return the installed distributions that one requires, directly or not."""
    found: dict[str, Distribution] = {}
    waiting = [(name, extras)]
    while waiting:
        current, wanted = waiting.pop()
        for line in distribution(current).requires or ():
            needed = Requirement(line)
            marker = needed.marker
            if marker and not any(marker.evaluate({"extra": each}) for each in ("", *wanted)):
                continue
            key = re.sub(r"[-_.]+", "-", needed.name).lower()
            if key in found:
                continue
            try:
                found[key] = distribution(needed.name)
            except PackageNotFoundError:
                continue
            waiting.append((needed.name, frozenset(needed.extras)))
    return found


def installed_bytes(package: Distribution) -> int:
    """Return the size of the files of a distribution."""
    paths = [Path(str(file.locate())) for file in package.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file())


def own_bytes() -> int:
    """Return the size of what this package installs, embedded models included."""
    paths = [path for part in PARTS for path in (ROOT / part).rglob("*")]
    kept = {path.resolve() for path in paths if path.is_file() and path.suffix != ".pyc"}
    return sum(path.stat().st_size for path in kept)


def lines() -> list[str]:
    """Return the findings in Markdown."""
    waited = seconds_of("-m", "llmsmc", "--help")
    verdict = "under" if waited < LIMIT else "not under"
    imports = list(import_shares(MODULE).items())[:5]
    sizes = {name: installed_bytes(each) for name, each in required("llmsmc").items()}
    large = sorted(sizes.items(), key=lambda pair: -pair[1])
    total, own = sum(sizes.values()), own_bytes()
    rest = large[6:]
    return [
        f"`llmsmc --help` answers in {verdict} {LIMIT} s of the processor.",
        "",
        f"| `import {MODULE}` | share |",
        "| --- | --: |",
        *(f"| {name} | {100 * share:.0f} % |" for name, share in imports),
        "",
        "| installed | MB |",
        "| --- | --: |",
        f"| llmsmc, embedded models included | {own / MB:,.1f} |",
        *(f"| {name} | {size / MB:,.0f} |" for name, size in large[:6]),
        f"| {len(rest)} others | {sum(size for _, size in rest) / MB:,.0f} |",
        f"| all | {(total + own) / MB:,.0f} |",
    ]


def main() -> None:
    """Print the findings in Markdown."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print("\n".join(lines()))


if __name__ == "__main__":
    main()
