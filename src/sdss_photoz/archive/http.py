"""HTTP with patience: what every client of the archive shares."""

import email.utils
import sys
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
from sdss_photoz.locks import alone

CONNECT_SECONDS = 20
LONGEST_PAUSE = 300  # seconds
LARGEST_ANSWER = 2_000_000_000  # bytes of a table: half a million rows of the widest query are 0.5 GB
PIECE = 1 << 20  # bytes
MOST_REDIRECTS = 5
PASSING = frozenset({403, 408, 425, 429})  # and 5xx: 403 is what a service's guard says to whom it throttles
PAGE = "a web page (blocked or throttled?)"

_SILENCE = urllib3.exceptions.ReadTimeoutError  # in mid-body requests calls it a ConnectionError
_threads = threading.local()


class Faltering(Exception):
    """A request failed in a way that another one may mend; `pause` is what the server asked for (seconds)."""

    def __init__(self, reason: str, pause: float = 0.0):
        self.pause = pause
        super().__init__(reason)


class Answer(NamedTuple):
    """What came back: HTTP status, headers, the body or its beginning, and the status in words."""

    status: int
    headers: requests.structures.CaseInsensitiveDict
    body: bytes
    reason: str = ""


def session() -> requests.Session:
    """A session for each thread, so that connections are used again."""
    if not hasattr(_threads, "session"):
        _threads.session = requests.Session()
        _threads.session.max_redirects = MOST_REDIRECTS
        _threads.session.headers.update({"User-Agent": f"sdss-photoz/{__version__}", "Accept-Encoding": "identity"})
    return _threads.session


def patient(archive, label: str) -> tenacity.Retrying:
    """Retries of anything that raises `Faltering` or an error of requests.

    Pauses grow from half a second to five minutes, are drawn at random so that many jobs do not come back at once, and
    are never shorter than the server asked for; each is told on stderr.

    Parameters
    ----------
    archive : config.Archive
        Its `patience_minutes` ends the retries: the last error is raised then.
    label : str
        What is asked for, as it is told.
    """

    def tell(state):
        error = state.outcome.exception()
        print(f"{label}: {explain(error)}; asked again in {state.next_action.sleep:.1f} s", file=sys.stderr)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        wait=_wait,
        stop=tenacity.stop_after_delay(60 * archive.patience_minutes),
        before_sleep=tell,
        reraise=True,
    )


def _may_pass(error) -> bool:
    """Whether asking again may help.

    Lost connections, silence and what `passes` says: yes; an address, or a redirect, that is none, a ValueError of
    requests: no.
    """
    return isinstance(error, Faltering | requests.RequestException) and not isinstance(error, ValueError)


_growing = tenacity.wait_exponential(0.5, max=LONGEST_PAUSE) + tenacity.wait_random(0, 0.5)


def _wait(state):
    return max(_growing(state), getattr(state.outcome.exception(), "pause", 0.0))


def explain(error: Exception) -> str:
    """A few words for an error of requests or a `Faltering`; they hold no header, so no credential."""
    if isinstance(error, requests.Timeout) or isinstance(next(iter(error.args), None), _SILENCE):
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


def passes(status: int) -> bool:
    """Whether a status is one of a failure that passes, at every door of the archive."""
    return status in PASSING or status >= 500


def is_page(body: bytes) -> bool:
    """Whether a body is a web page, or its beginning: no answer of a service of tables, nor a frame."""
    return body.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<")


def check_status(answer: Answer, said: str = "") -> None:
    """Raise `Faltering` for a status that passes, with the pause of Retry-After.

    What the server `said` in its body is told too, and that it is a web page.
    """
    if passes(answer.status):
        words = f"HTTP {answer.status} {answer.reason}" + (f", {PAGE}" if is_page(answer.body) else "")
        raise Faltering(words + (f": {said}" if said else ""), retry_after(answer.headers))


def retry_after(headers) -> float:
    """Seconds that the header Retry-After asks for, given in seconds or as a date; at most the longest pause."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        seconds = float(text)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError):
            seconds = 0.0
    return min(max(seconds, 0.0), LONGEST_PAUSE)


def insist(attempt, url: str, archive, label: str):
    """Call a function until it raises neither `Faltering` nor an error of requests; give what it returns.

    Parameters
    ----------
    attempt : callable
        Takes nothing, and asks once.
    url : str
        What is asked.
    archive : config.Archive
        Its `patience_minutes` ends the attempts.
    label : str
        What is asked for, as retries tell it.

    Raises
    ------
    UserError
        Where patience ends: it names the host and the last failure, and has no other error behind it, for that one
        would hold the request with its headers.
    """
    try:
        return patient(archive, label)(attempt)
    except ValueError as error:
        if not isinstance(error, requests.RequestException):
            raise
        sentence = f"{label}: {url} is no address to ask: set the key of the archive block that gives it."
    except (Faltering, requests.RequestException) as error:
        sentence = (
            f"{label}: {urlsplit(url).netloc} did not answer in {archive.patience_minutes:g} minutes "
            f"({explain(error)}): see that it can be reached and run again; what came is kept."
        )
    raise UserError(sentence)


def once(method: str, url: str, archive, **options) -> Answer:
    """Ask a single time, and read the whole answer, whatever its status.

    Parameters
    ----------
    method, url, **options
        As for `requests.Session.request`; redirects are not followed, for credentials stand in headers.
    archive : config.Archive
        Its `timeout_seconds` ends a silence.

    Raises
    ------
    requests.RequestException
        Where no answer comes, or it breaks off.
    UserError
        Where it is larger than any table.
    """
    timeout = (min(CONNECT_SECONDS, archive.timeout_seconds), archive.timeout_seconds)
    with session().request(method, url, stream=True, timeout=timeout, allow_redirects=False, **options) as response:
        body = bytearray()
        for piece in response.iter_content(PIECE):
            body += piece
            if len(body) > LARGEST_ANSWER:
                raise UserError(f"{urlsplit(url).netloc} sent more than {LARGEST_ANSWER:,} bytes: it is no table.")
        return Answer(response.status_code, response.headers, bytes(body), response.reason)


class Pace:
    """Requests a minute, kept by all processes that share a folder.

    Parameters
    ----------
    folder : str or Path
        Where the time of the last request is kept.
    per_minute : float
        Largest number of requests a minute.
    """

    def __init__(self, folder, per_minute: float):
        self._file, self._interval = Path(folder) / ".last-request", 60 / per_minute

    def wait(self) -> None:
        """Return when the next request may be sent."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with alone(self._file.with_name(".last-request.lease")):
            last = self._file.stat().st_mtime if self._file.exists() else 0.0
            time.sleep(min(max(0.0, last + self._interval - time.time()), self._interval))
            self._file.touch()
