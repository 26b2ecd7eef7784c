"""A folder that one process at a time works in.

The lock belongs to the open file and ends with its process, however that ends.
"""

from pathlib import Path
from typing import Any

import filelock

from llmsmc.errors import InputError
from llmsmc.storage.json_files import unwritable


def lock_folder(path: Path, work: str) -> "filelock.AcquireReturnProxy[Any]":
    """Return the lock of a folder, which is made where there is none; to be used in `with`.

    Args:
        path: the folder.
        work: the work that is done there, as a noun for the error.

    Raises:
        InputError: it cannot be written to, or another process is at work in it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(path / ".lock", timeout=0).acquire()
    except filelock.Timeout as error:
        raise InputError(
            f"Another {work} is at work in this folder. Got {str(path)!r}; accepted: another "
            "folder, or the same one later, which goes on from where it is then."
        ) from error
    except (OSError, ValueError, NotImplementedError) as error:
        raise unwritable(path, error) from error
