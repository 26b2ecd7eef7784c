"""Asking a server: one persistent asynchronous client, on a thread of its own.

The thread has an event loop of its own, so that this works where one runs already, as in notebooks.
What a server may do another time is tried again, after a while that grows: it does not answer, or
answers that it has too much to do (429) or an error of its own (5xx). Everything else is final.
"""

import asyncio
import email.utils
import json
import threading
import time
import weakref
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

import httpx
import tenacity

from llmsmc.errors import ServerError
from llmsmc.models.engines.address import root_of

FIRST_WAIT: Final = 0.25  # seconds before the second try, on average; doubled for each one after
LONGEST_WAIT: Final = 20.0
CONNECT_TIMEOUT: Final = 10.0
TIMEOUT: Final = 300.0  # seconds that an answer may take
RETRY_FOR: Final = 600.0  # seconds after which nothing is tried again
TOO_MANY_REQUESTS, NOT_IMPLEMENTED = 429, 501
REASON_LENGTH: Final = 300  # characters of what a server says that are shown

T = TypeVar("T")


class Client:
    """Asks one server; closed with the last reference to it, or by `close`.

    Attributes:
        root: the address, without the version of an interface.
        retry_for: seconds after which nothing is tried again.
        retries: how many requests have been tried again so far.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        retry_for: float | None = None,
        max_connections: int = 64,
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            base_url: the address, with or without the `/v1` behind it.
            api_key: sent as a bearer token, and shown nowhere.
            timeout: seconds that an answer may take.
            retry_for: seconds after which nothing is tried again; by default `RETRY_FOR`.
            max_connections: how many requests are under way at once.

        Raises:
            InputError: the address is none.
        """
        self.root = root_of(base_url)
        self.retry_for, self.retries = RETRY_FOR if retry_for is None else retry_for, 0
        self._api_key = api_key
        self._loop = asyncio.new_event_loop()
        self._room = asyncio.Semaphore(max_connections)
        self._http = httpx.AsyncClient(
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(timeout, connect=min(CONNECT_TIMEOUT, timeout), pool=None),
            limits=httpx.Limits(
                max_connections=max_connections, max_keepalive_connections=max_connections
            ),
        )
        self._thread = threading.Thread(
            target=_run, args=(self._loop,), name="llmsmc-client", daemon=True
        )
        self._thread.start()
        self._finalizer = weakref.finalize(self, _end, self._http, self._loop)

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

    def post_all(self, path: str, bodies: Sequence[dict[str, Any]]) -> list[Any]:
        """Return the answer to each request, or the `ServerError` that came instead."""

        async def ask_all() -> list[Any]:
            asked = (self.post(path, body) for body in bodies)
            return await asyncio.gather(*asked, return_exceptions=True)

        answers = self.run(ask_all())
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, ServerError):
                raise answer
        return answers

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the answer to one request, tried again as long as there is hope.

        Raises:
            ServerError: the server refuses it, or has not answered in time.
        """
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_down),
            wait=_wait,
            stop=tenacity.stop_after_delay(self.retry_for),
            before_sleep=self._count,
            reraise=True,
        )
        return await retrying(self._ask, "POST", path, body)

    def get(self, path: str) -> Any:
        """Return the answer of the server, None if it has no such page.

        Raises:
            ServerError: it refuses, or does not answer at the first try.
        """
        try:
            return self.run(self._ask("GET", path, None))
        except ServerError as error:
            if error.is_down or getattr(error, "status", None) in (401, 403):
                raise
            return None

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        address = self.root + path
        try:
            async with self._room:
                response = await self._http.request(method, address, json=body)
        except httpx.RequestError as error:
            message = self._message(address, str(error) or type(error).__name__)
            is_down = isinstance(error, httpx.TransportError)
            raise _Answered(message, is_down=is_down) from error
        if response.is_success:
            try:
                return response.json()
            except ValueError as error:
                message = self._message(address, "its answer is not JSON")
                raise _Answered(message, is_down=False) from error
        status = response.status_code
        is_down = response.is_server_error and status != NOT_IMPLEMENTED
        is_down = is_down or status == TOO_MANY_REQUESTS
        message = self._message(address, f"{status}, {_reason(response)}")
        raise _Answered(
            message,
            is_down=is_down,
            status=status,
            wait=_seconds(response.headers.get("Retry-After")),
        )

    def _message(self, address: str, reason: str) -> str:
        """Return what a user reads; a key that the server repeats is not in it."""
        message = f"The server at {address} gave no answer that can be used: {reason}."
        return message if self._api_key is None else message.replace(self._api_key, "***")

    def _count(self, state: tenacity.RetryCallState) -> None:
        self.retries += 1


class _Answered(ServerError):
    """What a server said instead of an answer.

    Attributes:
        status: the number of its answer, None if there was none.
        wait: the seconds that it asks to be left alone, None if it does not say.
    """

    def __init__(
        self, message: str, *, is_down: bool, status: int | None = None, wait: float | None = None
    ) -> None:
        super().__init__(message, is_down=is_down)
        self.status, self.wait = status, wait


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
        return max(float(retry_after), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None


def _reason(response: httpx.Response) -> str:
    """Return what the server says of an error, in a few words."""
    try:
        said = json.loads(response.text)
    except ValueError:
        said = response.text
    for key in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(key):
            said = said[key]
    return " ".join(str(said).split())[:REASON_LENGTH] or response.reason_phrase


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Do what comes, until the loop is told to stop."""
    loop.run_forever()
    loop.close()


def _end(http: httpx.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
    """Have the connections closed and the loop stopped, later, on its own thread.

    Waits for nothing: the garbage collector may call it in any thread, that of another client
    included, in the middle of anything, with a lock held that the thread of this one needs.
    """

    async def end() -> None:
        try:
            await http.aclose()
        finally:
            loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)
