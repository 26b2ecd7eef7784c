"""Libraries speak up while they load; on a command line that is noise, unless one debugs."""

import logging
import warnings


def quiet_libraries(debug: bool) -> None:
    """Turn off messages and progress bars of other libraries, unless `debug`."""
    if debug:
        return
    warnings.simplefilter("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
