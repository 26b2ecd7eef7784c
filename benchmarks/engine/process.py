"""A contender in a process of its own, which works only while it is asked."""

import json
import os
import selectors
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.engine.contenders import Contender
from benchmarks.peers.environments import python_of

ROOT: Final = Path(__file__).parents[2]


class ContenderFailedError(Exception):
    """A contender has failed; the message gives the reason."""


class Process:
    """A contender that has loaded its models."""

    def __init__(
        self, contender: Contender, models: dict[str, Any], environments: Path, patience: float
    ) -> None:
        """Start it.

        Raises:
            ContenderFailedError: it cannot be installed or started.
        """
        self._patience, self._unread = patience, b""
        python, variables = sys.executable, {"PYTHONPATH": str(ROOT)}
        if contender.peer is not None:
            try:
                python, variables = str(python_of(contender.peer, environments)), {"PYTHONPATH": ""}
            except subprocess.CalledProcessError as error:
                raise ContenderFailedError(f"cannot be installed: {error}") from error
        alone = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [python, contender.path],
            env={**os.environ, **variables, **alone, **quiet},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        packages = ("torch", "transformers", *contender.packages)
        try:
            self.versions = self.ask(
                {**models, "in_flight": contender.in_flight, "packages": packages}
            )["versions"]
        except ContenderFailedError:
            self.close()
            raise

    def ask(self, task: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a task.

        Raises:
            ContenderFailedError: it has failed, or takes too long; it is of no use any more then.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(task).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ContenderFailedError(self._last_words()) from None
        answer: dict[str, Any] = json.loads(self._line())
        if "error" in answer:
            raise ContenderFailedError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()

    def _line(self) -> bytes:
        stream = self._process.stdout
        assert stream is not None
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(self._patience):
                    raise ContenderFailedError(f"no answer within {self._patience:g} s")
                read = os.read(stream.fileno(), 2**16)
                if not read:
                    raise ContenderFailedError(self._last_words())
                self._unread += read
        line, self._unread = self._unread.split(b"\n", 1)
        return line

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else f"exit code {self._process.returncode}"
