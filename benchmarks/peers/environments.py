"""An environment for each peer: their requirements contradict one another."""

import subprocess
import venv
from pathlib import Path
from typing import Final

ENGINE: Final = ("transformers", "accelerate", "bitsandbytes")
"""The packages that run the models, in the versions of `constraints.txt`."""

ALGEBRA: Final = ("math-verify", "latex2sympy2_extended", "sympy")

REQUIREMENTS: Final = {
    "its_hub": ("torch", "its_hub==1.2.0", *ENGINE),
    "llamppl": ("torch", "llamppl==0.2.3", *ENGINE),
    "genlm_control": ("torch", "genlm-control==0.4.1", *ENGINE),
    "particles": ("torch", "particles==0.4"),
    "pyro": ("torch", "pyro-ppl==1.9.2"),
    "llama_cpp": ("xllamacpp==2026.10.11549",),
    "math_verify": (*ALGEBRA, "antlr4-python3-runtime"),
    "lm_eval": ("lm-eval==0.4.13", *ALGEBRA, "antlr4-python3-runtime==4.11"),
    "lighteval": ("torch", "lighteval==0.13.0", "latex2sympy2_extended==1.0.6", "sympy"),
}
"""Peer -> its requirements, by default in the versions of `constraints.txt`."""

CONSTRAINTS: Final = Path(__file__).parents[2] / "constraints.txt"


def python_of(peer: str, folder: Path) -> Path:
    """Return the interpreter of a peer's environment, which is made where there is none."""
    home = folder / peer
    python = home / "bin" / "python"
    requirements = [pinned(name) for name in REQUIREMENTS[peer]]
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
    """Return a requirement with its own version or the one of `constraints.txt`."""
    if "==" in requirement:
        return requirement
    lines = CONSTRAINTS.read_text().split()
    return next(line for line in lines if line.startswith(f"{requirement}=="))
