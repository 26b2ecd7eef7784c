"""The processes that compare expressions, which hold the computer algebra."""

import os
from pathlib import Path
from typing import Final

from llmsmc.core.worker_pool import ERROR as ERROR
from llmsmc.core.worker_pool import TIMEOUT as TIMEOUT
from llmsmc.core.worker_pool import WorkerPool

SCRIPT: Final = Path(__file__).with_name("worker.py")
MAX_PROCESSES: Final = 4

POOL: Final = WorkerPool(SCRIPT, min(MAX_PROCESSES, os.cpu_count() or 1))
