"""An environment for each peer: their requirements contradict one another."""

import subprocess
import venv
from pathlib import Path
from typing import Final

ENGINE: Final = ("transformers", "accelerate", "bitsandbytes")
"""What runs the same models; the versions are those of `constraints.txt`."""

REQUIREMENTS: Final = {
    "its_hub": ("its_hub==1.2.0", *ENGINE),
    "llamppl": ("llamppl==0.2.3", *ENGINE),
    "genlm_control": ("genlm-control==0.4.1", *ENGINE),
    "particles": ("particles==0.4",),
    "pyro": ("pyro-ppl==1.9.2",),
}
"""Peer -> what is installed for it; torch as in `constraints.txt`."""

CONSTRAINTS: Final = Path(__file__).parents[2] / "constraints.txt"


def python_of(peer: str, folder: Path) -> Path:
    """The interpreter of a peer's environment, which is made where there is none yet."""
    home = folder / peer
    python = home / "bin" / "python"
    requirements = [pinned(name) for name in ("torch", *REQUIREMENTS[peer])]
    complete, wanted = home / "complete", "\n".join(requirements)
    if not complete.exists() or complete.read_text() != wanted:
        venv.create(home, with_pip=True, clear=True)
        install: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            *requirements,
        ]
        subprocess.run(install, check=True)
        complete.write_text(wanted)
    return python


def pinned(requirement: str) -> str:
    """A requirement with the version of `constraints.txt`, unless it has one of its own."""
    if "==" in requirement:
        return requirement
    lines = CONSTRAINTS.read_text().split()
    return next(line for line in lines if line.startswith(f"{requirement}=="))
