"""Servers on this machine: a vLLM from an environment of its own, or a `llama-server`.

vLLM pins versions that do not go together with those of llmsmc: LLMSMC_VLLM_PYTHON, or an option,
names the interpreter of its environment. LLMSMC_LLAMA_SERVER names a `llama-server`, and
LLMSMC_LLAMA_MODEL the embedded policy as a GGUF file (docs/servers.md has recipes for both).
"""

import contextlib
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
LLAMA_VARIABLES: Final = ("LLMSMC_LLAMA_SERVER", "LLMSMC_LLAMA_MODEL")
SLOWEST_START: Final = 900.0  # seconds, on a machine that has other things to do


class ServerProcess:
    """A server that can be killed and started again at the same address."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Choose a free port for the command, which is not started yet."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._log = log
        self._command = [*command, "--host", "127.0.0.1", "--port", str(self.port)]
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
        """Return when the server answers; fail with its log if it has ended."""
        assert self._process is not None
        until = time.monotonic() + SLOWEST_START
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise RuntimeError("The server has ended:\n" + self._log.read_text()[-4000:])
            with contextlib.suppress(OSError, ValueError):
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return
            time.sleep(0.5)
        raise TimeoutError(
            f"The server has not answered for {SLOWEST_START} seconds; see {self._log}."
        )

    def kill(self) -> None:
        """End the server by SIGKILL, with all processes that it has started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def vllm(
    python: str, model: Path, name: str, log: Path, options: Sequence[str] = ()
) -> ServerProcess:
    """Return a vLLM with this model."""
    command = [
        *(python, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--served-model-name", name),
        *("--dtype", "float32", "--enforce-eager", "--max-model-len", "1024"),
        # On a CPU it ends when a prompt with a seed is read in parts: "CPU Generator does not use
        # offset" (vLLM 0.32.0).
        "--no-enable-chunked-prefill",
    ]
    return ServerProcess([*command, *options], log)


def llama(program: str, model: Path, name: str, log: Path) -> ServerProcess:
    """Return a llama.cpp with this model, 8 places of 1024 tokens each, in single precision."""
    command = [program, "--model", str(model), "--alias", name, "--parallel", "8"]
    precise = ["--cache-type-k", "f32", "--cache-type-v", "f32", "--ctx-size", str(8 * 1024)]
    # Its threads wait for each other by spinning: one, unless the machine has nothing else to do.
    threads = ["--threads", os.environ.get("OMP_NUM_THREADS", "1"), "--no-webui"]
    return ServerProcess([*command, *precise, *threads], log)


@contextlib.contextmanager
def running(server: ServerProcess) -> Iterator[ServerProcess]:
    """Run a server for as long as the block."""
    try:
        server.start()
        server.wait()
        yield server
    finally:
        server.kill()
