"""Addresses of servers."""

from urllib.parse import urlsplit

from llmsmc.errors import InputError


def root_of(address: str) -> str:
    """Return the address of a server without the version of an interface.

    Raises:
        InputError: it is no address, or has a name and a password in it.
    """
    parts = None
    if isinstance(address, str) and address.isprintable() and not set(address) & set(" \\"):
        try:
            parts = urlsplit(address)
            _ = parts.port
        except ValueError:
            parts = None
    if parts is not None and "@" in parts.netloc:
        raise InputError(
            "An address is written into results, and so has no secrets in it. Got one with a name "
            "or a password; accepted: the address alone, with the key beside it (api_key=, or "
            "LLMSMC_API_KEY on the command line)."
        )
    known = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
    if parts is None or not known or parts.query or parts.fragment:
        raise InputError(
            f"A server has an address. Got {address!r}; accepted: http://host:port/v1."
        )
    return address.rstrip("/").removesuffix("/v1")


def same_server(first: str, second: str) -> bool:
    """Return whether two addresses mean the same, however they are written.

    Raises:
        InputError: one of them is no address.
    """
    return _place(first) == _place(second)


def _place(address: str) -> tuple[str, str, int, str]:
    parts = urlsplit(root_of(address))
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return parts.scheme, parts.hostname or "", port, parts.path
