"""A vLLM server on this machine, started from an environment of its own.

The environment is that of the interpreter which LLMSMC_VLLM_PYTHON names, or an option: vLLM pins
versions that do not go together with those of llmsmc (docs/servers.md has a recipe for the CPU).
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

PYTHON_VARIABLE: Final = "LLMSMC_VLLM_PYTHON"
SLOWEST_START: Final = 900.0  # seconds, on a machine that has other things to do


class VllmServer:
    """A server that can be killed and started again at the same address."""

    def __init__(
        self, python: str, model: Path, name: str, log: Path, options: Sequence[str] = ()
    ) -> None:
        """Choose a free port; nothing is started yet."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._log = log
        self._command = [
            *(python, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(model), "--served-model-name", name),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--dtype", "float32", "--enforce-eager", "--max-model-len", "1024"),
            # On a CPU it ends when a prompt with a seed is read in parts: "CPU Generator does not
            # use offset" (vLLM 0.32.0).
            "--no-enable-chunked-prefill",
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start the server, which takes a minute or more until it answers."""
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        quiet = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1"} | threads | quiet
        environment.pop("PYTHONPATH", None)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Return when it answers; fail with its log if it has ended."""
        assert self._process is not None
        until = time.monotonic() + SLOWEST_START
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise RuntimeError("vLLM has ended:\n" + self._log.read_text()[-4000:])
            with contextlib.suppress(OSError, ValueError):
                with urllib.request.urlopen(f"{self.url}/models", timeout=5) as answer:
                    json.load(answer)
                    return
            time.sleep(0.5)
        raise TimeoutError(f"vLLM has not answered for {SLOWEST_START} seconds; see {self._log}.")

    def kill(self) -> None:
        """End it by SIGKILL, with everything that it has started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def vllm(
    python: str, model: Path, name: str, log: Path, options: Sequence[str] = ()
) -> Iterator[VllmServer]:
    """Run a server for as long as the block."""
    server = VllmServer(python, model, name, log, options)
    try:
        server.start()
        server.wait()
        yield server
    finally:
        server.kill()
