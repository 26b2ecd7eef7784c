"""The processes that render chat templates, which are programs by whoever made a checkpoint."""

from pathlib import Path
from typing import Final

from llmsmc.core.worker_pool import WorkerPool

SCRIPT: Final = Path(__file__).with_name("template_worker.py")
SECONDS: Final = 2.0  # of processor time; a chat takes milliseconds

POOL: Final = WorkerPool(SCRIPT, 2)
