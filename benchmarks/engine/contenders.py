"""The contenders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROGRAMS: Final = Path(__file__).parent / "runs"


@dataclass(frozen=True)
class Contender:
    """A contender.

    Attributes:
        name: in the tables.
        program: of those in `runs`.
        peer: whose environment it needs, a key of `benchmarks.peers.environments.REQUIREMENTS`;
            None for that of this project.
        packages: whose versions are reported.
        in_flight: problems that are solved at a time.
    """

    name: str
    program: str
    peer: str | None = None
    packages: tuple[str, ...] = ()
    in_flight: int = 1

    @property
    def path(self) -> Path:
        """The program."""
        return PROGRAMS / f"with_{self.program}.py"


OURS: Final = Contender("llmsmc", "llmsmc")
TOGETHER: Final = Contender("llmsmc, 8 in flight", "llmsmc", in_flight=8)
BARE_LOOP: Final = Contender("bare loop", "bare_loop")
GENERATE: Final = Contender("generate", "generate")
PEERS: Final = (
    Contender("its_hub", "its_hub", "its_hub", ("its_hub",)),
    Contender("llamppl", "llamppl", "llamppl", ("llamppl", "genlm-backend")),
    Contender("genlm-control", "genlm_control", "genlm_control", ("genlm-control",)),
)
ALL: Final = (OURS, TOGETHER, BARE_LOOP, GENERATE, *PEERS)
