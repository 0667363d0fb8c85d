"""HTTP with patience: retries, redirects within bounds, and a token that only its own server sees."""

from __future__ import annotations

import email.utils
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msicube
from msicube.errors import RemoteError
from msicube.remote.names import joined, shown

if TYPE_CHECKING:
    import httpx

Result = TypeVar("Result")

#: Answers after which the same request may succeed later.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 10
#: Longest answer that is kept in memory: the listing of a project of a hundred thousand files.
MAX_ANSWER = 256 * 2**20


class Transient(Exception):
    """Something went wrong that may go right next time.

    Attributes
    ----------
    wait
        How many seconds the server asked to wait; None where it did not say.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass(frozen=True)
class Patience:
    """How long to wait, and how often to try again.

    Attributes
    ----------
    attempts
        In a row without any progress, before a request fails.
    pause
        Seconds before the second attempt; each further pause is twice as long, up to ``longest``, and random in its
        upper half so that many clients do not come back together.
    longest
        Bound on a pause.
    obey
        Bound on a pause that the server asks for (``Retry-After``).
    connect, read
        Seconds for a connection, and of silence during an answer.
    """

    attempts: int = 6
    pause: float = 1.0
    longest: float = 60.0
    obey: float = 600.0
    connect: float = 30.0
    read: float = 90.0

    def seconds(self, attempt: int, asked: float | None) -> float:
        """Return how long to wait after the attempt of this number, from 1."""
        if asked is not None:
            return min(max(asked, 0.0), self.obey)
        bound = min(self.pause * 2.0 ** (attempt - 1), self.longest)
        return bound * random.uniform(0.5, 1)


@dataclass(frozen=True)
class Token:
    """A bearer token and the one server that may see it.

    Attributes
    ----------
    value
        Never printed.
    server
        Any URL of it.
    """

    value: str = field(repr=False)
    server: str

    def headers(self, url: str) -> dict[str, str]:
        """Return the header for a request; nothing for another server, or for one that would send it in the clear."""
        parts = urlsplit(url)
        private = parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1")
        if _server(url) != _server(self.server) or not private:
            return {}
        return {"Authorization": f"Bearer {self.value}"}


@dataclass
class HttpClient:
    """Makes requests from any thread; picklable. Close it, or use it as a context manager.

    Attributes
    ----------
    patience
        How long to wait.
    token
        For private data.
    """

    patience: Patience = field(default_factory=Patience)
    token: Token | None = None
    _client: httpx.Client | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"patience": self.patience, "token": self.token}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __enter__(self) -> HttpClient:
        self._stop.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def stop(self) -> None:
        """Let what is waiting or downloading in other threads end soon, with an error."""
        self._stop.set()

    def check_stopped(self) -> None:
        """Raise where the work was stopped."""
        if self._stop.is_set():
            raise RemoteError("stopped")

    def pause(self, attempt: int, asked: float | None) -> None:
        """Wait before another attempt."""
        self._stop.wait(self.patience.seconds(attempt, asked))
        self.check_stopped()

    def retry(self, action: Callable[[], Result]) -> Result:
        """Return what an action returns, trying again after what is transient.

        Raises
        ------
        RemoteError
            It went wrong too often.
        """
        for attempt in range(1, self.patience.attempts + 1):
            try:
                return action()
            except Transient as error:
                if attempt == self.patience.attempts:
                    raise RemoteError(f"{error}; gave up after {attempt} attempts") from None
                self.pause(attempt, error.wait)
        raise AssertionError

    def get(self, url: str, *, accept: str = "*/*") -> tuple[bytes, Mapping[str, str]]:
        """Return the whole of a small answer, and its headers.

        Raises
        ------
        RemoteError
            The server cannot be reached or refuses, or the answer is too long to be what was asked for.
        """

        def read() -> tuple[bytes, Mapping[str, str]]:
            with self.open(url, {"Accept": accept}) as response:
                body = bytearray()
                for chunk in self.chunks(response, url):
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise RemoteError(f"{shown(url)} sends more than {MAX_ANSWER} bytes: not a listing")
                return bytes(body), response.headers

        return self.retry(read)

    def get_json(self, url: str) -> tuple[Any, Mapping[str, str]]:
        """Return the parsed JSON of an answer, and its headers.

        Raises
        ------
        RemoteError
            As :meth:`get`, or the answer is no JSON, such as the web page of a proxy.
        """
        body, headers = self.get(url, accept="application/json")
        try:
            return json.loads(body), headers
        except ValueError as error:
            kind = headers.get("content-type", "an unknown type").split(";")[0]
            begin = body[:60].decode("utf-8", "replace")
            raise RemoteError(
                f"{shown(url)} answers with {kind} that begins {begin!r}, where JSON was expected: check the address, "
                f"and whether a proxy or a login page is in the way"
            ) from error

    @contextmanager
    def open(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Yield an answer whose body is still to be read; redirects are followed, only to HTTP servers.

        Raises
        ------
        Transient
            No connection, or an answer after which the same request may succeed.
        RemoteError
            The server refuses, or redirects without end or to another protocol.
        """
        import httpx

        asked = url
        for _ in range(MAX_REDIRECTS + 1):
            self.check_stopped()
            try:
                _check_scheme(url, asked)
                request = self._http().build_request(
                    "GET", url, headers={**headers, **(self.token.headers(url) if self.token else {})}
                )
                response = self._http().send(request, stream=True)
            except httpx.TransportError as error:
                raise Transient(f"{shown(url)}: {_reason(error)}") from None
            except (httpx.InvalidURL, ValueError) as error:
                raise RemoteError(f"{shown(url)} is no valid address: {error}") from None
            try:
                if response.status_code not in REDIRECTS:
                    _check_status(response, url)
                    yield response
                    return
                url = joined(url, response.headers.get("location", ""))
            finally:
                response.close()
        raise RemoteError(
            f"{shown(asked)} redirects more than {MAX_REDIRECTS} times: give the address of the file itself"
        )

    def chunks(self, response: httpx.Response, url: str, *, raw: bool = False) -> Iterator[bytes]:
        """Yield the body of an answer as it comes; ``raw`` leaves a compression of the transfer as it is.

        Raises
        ------
        Transient
            The connection broke off, or went silent.
        """
        import httpx

        try:
            for chunk in response.iter_raw() if raw else response.iter_bytes():
                self.check_stopped()
                yield chunk
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Transient(f"{shown(url)}: {_reason(error)}") from None

    def _http(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
                timeout = httpx.Timeout(self.patience.read, connect=self.patience.connect)
                agent = {"User-Agent": f"msicube/{msicube.__version__}"}
                self._client = httpx.Client(
                    timeout=timeout, limits=limits, headers=agent, follow_redirects=False
                )
            return self._client


def _server(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _check_scheme(url: str, asked: str) -> None:
    """Check that a request stays with HTTP, and does not go from an encrypted address to an open one."""
    scheme = urlsplit(url).scheme
    if scheme not in ("http", "https"):
        raise RemoteError(f"{shown(asked)} leads to {shown(url)}: only http and https are followed")
    if scheme == "http" and urlsplit(asked).scheme == "https":
        raise RemoteError(f"{shown(asked)} leads to {shown(url)}, which is not encrypted: not followed")


def _check_status(response: httpx.Response, url: str) -> None:
    code = response.status_code
    if code < 400 or code == 416:
        return
    what = f"{shown(url)}: the server answers {code} {response.reason_phrase}".rstrip()
    if code in TRANSIENT:
        raise Transient(what, _retry_after(response.headers.get("retry-after")))
    hints = {
        401: "a token is needed",
        403: "access is refused",
        404: "there is nothing of this name",
        410: "it has gone",
    }
    raise RemoteError(f"{what} ({hints[code]})" if code in hints else what)


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a server asks to wait, given as a number or as a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    """Return what went wrong with a connection in a few words; never the request, which may hold a token."""
    import httpx

    kinds = {
        httpx.ConnectTimeout: "no connection within the time allowed",
        httpx.ReadTimeout: "no answer within the time allowed",
        httpx.ConnectError: f"no connection ({error})",
        httpx.RemoteProtocolError: "the connection broke off",
        httpx.ReadError: "the connection broke off",
    }
    return next((text for kind, text in kinds.items() if isinstance(error, kind)), type(error).__name__)
