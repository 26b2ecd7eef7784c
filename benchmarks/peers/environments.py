"""An environment for each peer: their requirements contradict one another."""

import subprocess
import venv
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = {
    "its_hub": ("its_hub==1.2.0",),
    "llamppl": ("llamppl==0.2.3",),
    "genlm_control": ("genlm-control==0.4.1",),
    "particles": ("particles==0.4",),
    "pyro": ("pyro-ppl==1.9.2",),
}
"""Peer -> what is installed for it; torch as in `constraints.txt`."""

CONSTRAINTS: Final = Path(__file__).parents[2] / "constraints.txt"


def python_of(peer: str, folder: Path) -> Path:
    """The interpreter of a peer's environment, which is made where there is none yet."""
    home = folder / peer
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        venv.create(home, with_pip=True, clear=True)
        (torch,) = (line for line in CONSTRAINTS.read_text().split() if line.startswith("torch=="))
        install: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            torch,
            *REQUIREMENTS[peer],
        ]
        subprocess.run(install, check=True)
        (home / "complete").touch()
    return python
