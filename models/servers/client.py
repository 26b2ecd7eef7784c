"""Asking a server: asynchronous clients that last, on a thread of their own.

The thread has an event loop of its own, so that this works where one runs already, as in notebooks.
What a server may do another time is tried again, after a while that grows: it does not answer, or
answers that it has too much to do (429) or an error of its own (5xx). Everything else is final.

Nothing that a server does takes longer or more room than it is given: each try has its time, all
of them together have theirs, and an answer has a size, as it is sent and as it is unpacked.
"""

import asyncio
import email.utils
import math
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx
import tenacity
from pydantic_core import from_json

from llmsmc.core.checks import require_count, require_seconds
from llmsmc.errors import ServerError
from llmsmc.models.servers.address import root_of
from llmsmc.models.servers.answer import short
from llmsmc.models.servers.key import HidingFilter, Key

FIRST_WAIT: Final = 0.25  # seconds before the second try, on average; doubled for each one after
LONGEST_WAIT: Final = 20.0
CONNECT_TIMEOUT: Final = 10.0
TIMEOUT: Final = 300.0  # seconds that an answer may take
RETRY_FOR: Final = 600.0  # seconds after which nothing is tried again
MAX_ANSWER_BYTES: Final = 32 * 2**20
TOO_MANY_REQUESTS, NOT_IMPLEMENTED = 429, 501
REFUSALS: Final = (401, 403)
REDIRECTS: Final = (301, 302, 303, 307, 308)
REASON_LENGTH: Final = 300  # characters of what a server says that are shown
_LOOKED_AT: Final = 100_000  # characters of what a server says in which its reason is looked for
_UNPACKED: Final = ("gzip", "x-gzip", "deflate")

T = TypeVar("T")


class Client:
    """Asks one server; closed with the last reference to it, or by `close`.

    Attributes:
        root: the address, without the version of an interface.
        timeout: seconds that one try may take, from its beginning to the last byte of the answer.
        retry_for: seconds after which nothing is tried again.
        max_answer_bytes: how large an answer may be, as it is sent and as it is unpacked.
        retries: how many requests have been tried again so far.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float | int = TIMEOUT,
        retry_for: float | int | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        max_connections: int = 64,
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            base_url: the address, with or without the `/v1` behind it.
            api_key: sent as a bearer token to this address alone, and shown nowhere.
            timeout: seconds that an answer may take.
            retry_for: seconds after which nothing is tried again; by default `RETRY_FOR`.
            max_answer_bytes: how large an answer may be.
            max_connections: how many requests are under way at once.

        Raises:
            InputError: the address is none, or the key or a limit cannot be used.
        """
        self.root = root_of(base_url)
        self.timeout, self.retries = timeout, 0
        self.retry_for = RETRY_FOR if retry_for is None else retry_for
        self.max_answer_bytes = max_answer_bytes
        require_seconds("timeout", self.timeout)
        require_seconds("retry_for", self.retry_for, may_be_zero=True)
        require_count("max_answer_bytes", max_answer_bytes)
        require_count("max_connections", max_connections)
        self._key = None if api_key is None else Key(api_key)
        self._loop = asyncio.new_event_loop()
        self._room = asyncio.Semaphore(max_connections)
        self._verify = httpx.create_ssl_context()
        self._clients, self._free = list[httpx.AsyncClient](), list[httpx.AsyncClient]()
        hiding = None if self._key is None else HidingFilter(self._key)
        if hiding is not None:
            hiding.add()
        self._thread = threading.Thread(
            target=_run, args=(self._loop,), name="llmsmc-client", daemon=True
        )
        self._thread.start()
        self._finalizer = weakref.finalize(self, _end, self._clients, self._loop, hiding)

    def __repr__(self) -> str:
        """Show which server is asked."""
        return f"Client({self.root!r})"

    def close(self) -> None:
        """Close all connections and wait for the end of the thread."""
        self._finalizer()
        self._thread.join()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for what is done on the thread; an interruption here ends it there."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def hides(self, text: str) -> bool:
        """Return whether the key is in a text, or what is left of it where it was cut off."""
        return self._key is not None and self._key.hide_in(text) != text

    def post_all(
        self,
        path: str,
        bodies: Sequence[dict[str, Any]],
        readers: Sequence[Callable[[Any], T]],
    ) -> list[T | ServerError]:
        """Return what each reader makes of the answer to its request, or why it is nothing."""

        async def ask_all() -> list[T | BaseException]:
            asked = (
                self.post(path, body, read) for body, read in zip(bodies, readers, strict=True)
            )
            return await asyncio.gather(*asked, return_exceptions=True)

        answers = list[T | ServerError]()
        found: list[T | BaseException] = self.run(ask_all())
        for answer in found:
            if isinstance(answer, BaseException) and not isinstance(answer, ServerError):
                raise answer
            answers.append(answer)
        return answers

    async def post(self, path: str, body: dict[str, Any], read: Callable[[Any], T]) -> T:
        """Return what is read from the answer to a request, tried again while there is hope.

        Args:
            path: behind the address.
            body: what is sent.
            read: what is made of the JSON of the answer; raises `ServerError` if it is none.

        Raises:
            ServerError: the server refuses it, has not answered in time, or not what it should.
        """
        begun: float | None = None

        async def attempt() -> Any:
            nonlocal begun
            async with self._room:
                now = self._loop.time()
                begun = now if begun is None else begun
                end = begun + max(self.timeout, self.retry_for)
                return await self._ask("POST", path, body, min(self.timeout, end - now))

        def is_over(state: tenacity.RetryCallState) -> bool:
            next_try = self._loop.time() + state.upcoming_sleep
            return begun is None or next_try > begun + self.retry_for

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_down),
            wait=_wait,
            stop=is_over,
            before_sleep=self._count,
            reraise=True,
        )
        try:
            answer: Any = await retrying(attempt)
        except ServerError as error:
            tries = retrying.statistics["attempt_number"]
            if tries > 1 and begun is not None:
                spent = f"; it was asked {tries} times in {self._loop.time() - begun:.3g} s."
                error.args = (str(error).removesuffix(".") + spent,)
            raise
        try:
            return read(answer)
        except ServerError as error:
            raise ServerError(self._message(self.root + path, str(error)), is_down=False) from None

    def get(self, path: str, *, needed: bool = False) -> Any:
        """Return the answer of the server, None if it has no such page.

        A page to which it points instead is none, and an error where there must be one.

        Raises:
            ServerError: it refuses, or does not answer at the first try.
        """
        try:
            return self.run(self._ask("GET", path, None, self.timeout))
        except ServerError as error:
            is_elsewhere = needed and error.status in REDIRECTS
            if error.is_down or error.status in REFUSALS or is_elsewhere:
                raise
            return None

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None, seconds: float
    ) -> Any:
        """Return the JSON of the answer to one try; no text in it has the key."""
        address = self.root + path
        got = await self._got(method, address, body, seconds)
        if isinstance(got, _Failure):
            message = self._message(address, got.reason)
            raise ServerError(message, is_down=got.is_down, status=got.status, wait=got.wait)
        return got if self._key is None else self._key.hide_in(got)

    async def _got(
        self, method: str, address: str, body: dict[str, Any] | None, seconds: float
    ) -> "Any | _Failure":
        """Return the JSON of the answer, or else what has gone wrong.

        That is returned and not raised: what other libraries raise has the request in it, with the
        key, and would be the context of an error raised beside it.
        """
        client = self._free.pop() if self._free else self._new_client()
        try:
            async with (
                asyncio.timeout(seconds),
                client.stream(method, address, json=body) as response,
            ):
                content = await _content(response, self.max_answer_bytes)
        except TimeoutError:
            return _Failure(f"it has not answered within {max(seconds, 0):.3g} s", is_down=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            return _Failure(reason, is_down=isinstance(error, httpx.TransportError))
        finally:
            self._free.append(client)
        if not response.is_success:
            return self._refusal(response, content)
        if isinstance(content, _Failure):
            return content
        try:
            return from_json(content)
        except ValueError as error:
            got = self._hidden(content[:_LOOKED_AT].decode(errors="replace"))
            return _Failure(f"it is no JSON ({error}). Got {short(got)}", is_down=False)

    def _new_client(self) -> httpx.AsyncClient:
        """Return one more client of httpx, for one request at a time.

        A single client searches all of its connections at the beginning and the end of each
        request: with 64 of them, that takes several times as long as all else.
        """
        timeout = httpx.Timeout(self.timeout, connect=min(CONNECT_TIMEOUT, self.timeout))
        client = httpx.AsyncClient(
            headers={"Accept-Encoding": "gzip, deflate"}
            | ({} if self._key is None else self._key.header()),
            verify=self._verify,
            follow_redirects=False,  # the key is for this address
            timeout=timeout,
        )
        self._clients.append(client)
        return client

    def _refusal(self, response: httpx.Response, content: "bytes | _Failure") -> "_Failure":
        """Return why an answer is none that has another status than success."""
        status = response.status_code
        said = content.reason if isinstance(content, _Failure) else _reason(content)
        reason = f"{status}, {said or response.reason_phrase or 'no reason'}"
        if response.has_redirect_location:
            reason += f"; it points to {response.headers['Location']}, which is not followed"
        wait = _seconds(response.headers.get("Retry-After"))
        if wait:
            reason += f"; it asks to be left alone for {wait:.0f} s"
        if status in REFUSALS:
            reason += "; no key was sent" if self._key is None else "; a key was sent"
        is_down = response.is_server_error and status != NOT_IMPLEMENTED
        return _Failure(
            reason,
            is_down=is_down or status == TOO_MANY_REQUESTS,
            status=status,
            wait=wait,
        )

    def _message(self, address: str, reason: str) -> str:
        """Return what a user reads: the key is hidden before anything is cut off."""
        reason = self._hidden(reason[:_LOOKED_AT])
        reason = "".join(each if each.isprintable() else " " for each in reason)
        reason = " ".join(reason.split()).rstrip(".")
        if len(reason) > REASON_LENGTH:
            reason = f"{reason[:REASON_LENGTH]}..."
        return f"The server at {address} gave no answer that can be used: {reason}."

    def _hidden(self, text: str) -> str:
        return text if self._key is None else self._key.hide(text)

    def _count(self, state: tenacity.RetryCallState) -> None:
        self.retries += 1


@dataclass(frozen=True)
class _Failure:
    """What has gone wrong with a try; see `ServerError`."""

    reason: str
    is_down: bool
    status: int | None = None
    wait: float | None = None


def _is_down(error: BaseException) -> bool:
    return isinstance(error, ServerError) and error.is_down


_backoff = tenacity.wait_random_exponential(multiplier=2 * FIRST_WAIT, max=LONGEST_WAIT)


def _wait(state: tenacity.RetryCallState) -> float:
    """Return the seconds until the next try: those asked for, or else those of the backoff."""
    error = state.outcome.exception() if state.outcome is not None else None
    return max(_backoff(state), getattr(error, "wait", None) or 0.0)


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a header that has a number of them, or a date."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            until = email.utils.parsedate_to_datetime(retry_after).timestamp()
        except (TypeError, ValueError, OverflowError, IndexError):
            return None
        seconds = until - time.time()
    return None if math.isnan(seconds) else max(seconds, 0.0)


async def _content(response: httpx.Response, limit: int) -> "bytes | _Failure":
    """Return the body, unpacked piece by piece so that it never takes more room than the limit."""
    packing = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packing not in ("", "identity", *_UNPACKED):
        accepted = ", ".join(("none", *_UNPACKED))
        return _Failure(f"it is packed by {packing!r}; accepted: {accepted}", is_down=False)
    # The beginning tells whether it is that of gzip or of zlib.
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if packing in _UNPACKED else None
    size, content = 0, bytearray()
    async for piece in response.aiter_raw():
        size += len(piece)
        room = limit + 1 - len(content)
        try:
            content += piece if unpack is None else unpack.decompress(piece, room)
        except zlib.error as error:
            return _Failure(f"it cannot be unpacked ({error})", is_down=False)
        if max(size, len(content)) > limit:
            return _Failure(f"it is larger than {limit} bytes (max_answer_bytes)", is_down=False)
    if unpack is not None and size and not unpack.eof:
        return _Failure("it cannot be unpacked (it has no end)", is_down=False)
    return bytes(content)


def _reason(content: bytes) -> str:
    """Return what the server says of an error, without what stands around it."""
    text = content[:_LOOKED_AT].decode(errors="replace")
    try:
        said = from_json(content)
    except ValueError:
        return text
    for key in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(key):
            said = said[key]
    return said if isinstance(said, str) else str(said)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Do what comes, until the loop is told to stop; nothing is left half done."""

    async def finish() -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await loop.shutdown_asyncgens()

    loop.run_forever()
    loop.run_until_complete(finish())
    loop.close()


def _end(
    clients: list[httpx.AsyncClient],
    loop: asyncio.AbstractEventLoop,
    hiding: HidingFilter | None,
) -> None:
    """Have the connections closed and the loop stopped, later, on its own thread.

    Waits for nothing: the garbage collector may call it in any thread, that of another client
    included, in the middle of anything, with a lock held that the thread of this one needs.
    """

    async def end() -> None:
        try:
            for client in clients:
                await client.aclose()
        finally:
            if hiding is not None:
                hiding.remove()
            loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)
