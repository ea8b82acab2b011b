"""HTTP requests with retries and a rate limit, shared by all clients of the archive."""

import email.utils
import logging
import threading
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
import tenacity
import urllib3

from sdss_photoz import __version__
from sdss_photoz.errors import UserError
from sdss_photoz.locks import exclusive

CONNECT_SECONDS = 20
MAX_WAIT = 300  # seconds between two attempts
MAX_BODY_BYTES = 2_000_000_000  # of a table: half a million rows of the widest query have 0.5 GB
CHUNK_BYTES = 1 << 20
MAX_REDIRECTS = 5
TRANSIENT_STATUSES = frozenset({403, 408, 425, 429})  # besides 5xx; firewalls answer 403 to clients that they throttle
WEB_PAGE = "a web page (blocked or throttled?)"

_log = logging.getLogger(__name__)
_ReadTimeoutError = urllib3.exceptions.ReadTimeoutError  # in a body, requests raises it as a ConnectionError
_local = threading.local()


class TransientError(Exception):
    """A request failed, but a retry may succeed.

    Parameters
    ----------
    reason : str
        What failed, in a few words.
    retry_after : float
        Seconds that the server asked to wait.
    """

    def __init__(self, reason: str, retry_after: float = 0.0):
        self.retry_after = retry_after
        super().__init__(reason)


class Response(NamedTuple):
    """A response: HTTP status, headers, the body or its beginning, and the reason phrase."""

    status: int
    headers: requests.structures.CaseInsensitiveDict
    body: bytes
    reason: str = ""


def session() -> requests.Session:
    """The session of this thread: connections are reused."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.max_redirects = MAX_REDIRECTS
        _local.session.headers.update({"User-Agent": f"sdss-photoz/{__version__}", "Accept-Encoding": "identity"})
    return _local.session


def retrying(archive, label: str) -> tenacity.Retrying:
    """Retry a function that raises `TransientError` or an error of requests.

    Waits grow exponentially from half a second to five minutes, with random jitter, and are never shorter than the
    server asks for. Each is logged.

    Parameters
    ----------
    archive : config.Archive
        After its `patience_minutes` the last error is raised.
    label : str
        What is requested, for the log.
    """

    def log_retry(state):
        error = state.outcome.exception()
        _log.warning("%s: %s; asked again in %.1f s", label, describe_error(error), state.next_action.sleep)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_retryable),
        wait=_wait,
        stop=tenacity.stop_after_delay(60 * archive.patience_minutes),
        before_sleep=log_retry,
        reraise=True,
    )


def _is_retryable(error) -> bool:
    """Whether a retry may succeed: not after an invalid address or redirect, which requests raises as ValueError."""
    return isinstance(error, TransientError | requests.RequestException) and not isinstance(error, ValueError)


_backoff = tenacity.wait_exponential(0.5, max=MAX_WAIT) + tenacity.wait_random(0, 0.5)


def _wait(state):
    return max(_backoff(state), getattr(state.outcome.exception(), "retry_after", 0.0))


def describe_error(error: Exception) -> str:
    """Describe an error of requests, or a `TransientError`, in a few words without headers, which hold credentials."""
    if isinstance(error, requests.Timeout) or isinstance(next(iter(error.args), None), _ReadTimeoutError):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection: is its certificate trusted here?"
    if isinstance(error, requests.exceptions.ProxyError):
        return "no connection through the proxy"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke in mid-answer"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return str(error)


def is_transient(status: int) -> bool:
    """Whether a request with this HTTP status is retried."""
    return status in TRANSIENT_STATUSES or status >= 500


def is_web_page(body: bytes) -> bool:
    """Whether a body begins as a web page does, and so is neither a table nor a frame."""
    return body.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<")


def check_status(response: Response, message: str = "") -> None:
    """Raise `TransientError` for a transient status, with the server's `message` and its Retry-After."""
    if is_transient(response.status):
        reason = f"HTTP {response.status} {response.reason}" + (f", {WEB_PAGE}" if is_web_page(response.body) else "")
        raise TransientError(reason + (f": {message}" if message else ""), retry_after(response.headers))


def retry_after(headers) -> float:
    """Seconds of the header Retry-After, which holds seconds or a date; 0 without it, at most `MAX_WAIT`."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        seconds = float(text)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError):
            seconds = 0.0
    return min(max(seconds, 0.0), MAX_WAIT)


def with_retries(attempt, url: str, archive, label: str):
    """Return the result of `attempt`, retrying it (see `retrying`) until `archive.patience_minutes` are over.

    Parameters
    ----------
    attempt : callable
        Sends one request; takes no arguments.
    url : str
        Address of the request.
    archive : config.Archive
        Its `patience_minutes` limits the retries.
    label : str
        What is requested, for the log.

    Raises
    ------
    UserError
        After the last attempt, with the host and the last failure. It has no ``__context__``, which would hold the
        request with its headers.
    """
    try:
        return retrying(archive, label)(attempt)
    except ValueError as error:
        if not isinstance(error, requests.RequestException):
            raise
        sentence = f"{label}: {url} is no address to ask: set the key of the archive block that gives it."
    except (TransientError, requests.RequestException) as error:
        sentence = (
            f"{label}: {urlsplit(url).netloc} did not answer in {archive.patience_minutes:g} minutes "
            f"({describe_error(error)}): see that it can be reached and run again; what came is kept."
        )
    raise UserError(sentence)


def request(method: str, url: str, archive, **options) -> Response:
    """Send one request and read the whole response, whatever its status.

    Parameters
    ----------
    method, url, **options
        As for `requests.Session.request`. Redirects are not followed: headers hold credentials.
    archive : config.Archive
        Its `timeout_seconds` limits the wait for each part of the response.

    Raises
    ------
    requests.RequestException
        If there is no response, or it is cut off.
    UserError
        If it is larger than `MAX_BODY_BYTES`.
    """
    timeout = (min(CONNECT_SECONDS, archive.timeout_seconds), archive.timeout_seconds)
    with session().request(method, url, stream=True, timeout=timeout, allow_redirects=False, **options) as response:
        body = bytearray()
        for piece in response.iter_content(CHUNK_BYTES):
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise UserError(f"{urlsplit(url).netloc} sent more than {MAX_BODY_BYTES:,} bytes: it is no table.")
        return Response(response.status_code, response.headers, bytes(body), response.reason)


class RateLimiter:
    """Limits the requests per minute of all processes that share a folder.

    Parameters
    ----------
    folder : str or Path
        Folder of the file whose modification time is that of the last request.
    per_minute : float
        Largest number of requests per minute.
    """

    def __init__(self, folder, per_minute: float):
        self._file, self._interval = Path(folder) / ".last-request", 60 / per_minute

    def wait(self) -> None:
        """Wait until the next request may be sent."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(self._file.with_name(".last-request.lease")):
            last = self._file.stat().st_mtime if self._file.exists() else 0.0
            time.sleep(min(max(0.0, last + self._interval - time.time()), self._interval))
            self._file.touch()
