"""The REST service of CasJobs at SciServer.

Paths, headers and responses are those of SciScript-Python, SciServer's own client
(https://github.com/sciserver/SciScript-Python, ``CasJobs.py`` and ``Authentication.py``).
"""

import json
import re
from typing import NamedTuple

import pandas as pd
import requests

from sdss_photoz.archive import http
from sdss_photoz.archive.account import Account
from sdss_photoz.archive.http import TransientError
from sdss_photoz.archive.query import read_result
from sdss_photoz.errors import UserError

STATES = ("ready", "started", "canceling", "canceled", "failed", "finished")  # by their codes in CasJobs
READY, STARTED, CANCELING, CANCELED, FAILED, FINISHED = range(6)
MAX_RENEWALS = 2  # log-ins for one request: a new token may have expired already, but not repeatedly
SQL_ERROR = re.compile(  # messages of SQL Server after which a retry cannot succeed, whatever the HTTP status
    r"Invalid (object|column) name|already an object named|Cannot drop the table|Incorrect syntax|could not be bound",
    re.IGNORECASE,
)
_BAD_TOKEN = re.compile(
    r"\b(invalid|expired|missing|unauthori[sz]ed|not valid)\b.{0,40}\btoken\b|"
    r"\btoken\b.{0,40}\b(invalid|expired|missing|unauthori[sz]ed|required|not valid)\b",
    re.IGNORECASE,
)


class RequestRefused(Exception):
    """CasJobs refused a request."""

    def __init__(self, label: str, status: int, message: str):
        self.label, self.status, self.message = label, status, message
        super().__init__(f"{label}: HTTP {status}: {message}")


class SubmissionUnknown(Exception):
    """A job was submitted, but it is unknown whether CasJobs accepted it."""


class Status(NamedTuple):
    """The status of a job.

    Attributes
    ----------
    code : int
        `READY` … `FINISHED`.
    rows : int or None
        Rows of its table, if it is finished.
    message : str
        The server's message.
    table : str
        The table that it created; empty if there is none.
    submitted, started, ended : str
        Times of the server's clock (ISO 8601); empty if not yet.
    """

    code: int
    rows: int | None
    message: str
    table: str
    submitted: str
    started: str
    ended: str


class CasJobs:
    """Requests to CasJobs. Each is retried after transient errors, and logs in again when the token is refused.

    Each raises `RequestRefused` if CasJobs refuses it, and UserError after the last retry or if SciServer refuses the
    account.

    Parameters
    ----------
    archive : config.Archive
        Addresses, release, timeouts and retries.
    limiter : http.RateLimiter
        Waits before each request, retries included.
    """

    def __init__(self, archive, limiter):
        self._archive, self._limiter, self._account = archive, limiter, Account(archive)

    def __repr__(self):
        return f"CasJobs({self._archive.casjobs!r})"

    def submit(self, sql: str, task: str) -> int:
        """Submit a batch query once.

        It is sent again only if CasJobs cannot have accepted it: no connection, or HTTP 401, 503 or a transient 4xx.
        After a lost response or another 5xx that is unknown, and a second job would cost the archive an hour and fail
        because the first one's table exists.

        Returns
        -------
        int
            Number of the job.

        Raises
        ------
        SubmissionUnknown
            If it is unknown whether the job was accepted.
        RequestRefused
            If CasJobs refuses the query.
        """
        label, path = f"submit {task}", f"contexts/DR{self._archive.release}/jobs"

        def attempt():
            lost = None
            try:
                response = self._send("PUT", path, {"Query": sql, "TaskName": task}, "text/plain")
            except requests.RequestException as error:
                if _never_sent(error):
                    raise
                lost = http.describe_error(error)
            if lost:
                raise SubmissionUnknown(lost)  # outside of except: the error's context would hold the token
            message = self._message(response)
            if response.status < 500 or response.status == 503:
                http.check_status(response, message)
            if response.status < 300 and message.isdecimal():
                return int(message)
            if 300 <= response.status < 500 or SQL_ERROR.search(message):
                raise RequestRefused(label, response.status, message)
            page = f"{http.WEB_PAGE}: " if http.is_web_page(response.body) else ""
            raise SubmissionUnknown(
                f"HTTP {response.status} {response.reason} without a job's number: {page}{message or 'no word'}"
            )

        return http.with_retries(attempt, self._archive.casjobs, self._archive, label)

    def status(self, job: int) -> Status:
        """Get the status of a job."""
        return self._call("GET", f"jobs/{job}", f"look at job {job}", lambda response: read_status(response.body))

    def find(self, task: str) -> int | None:
        """Find the number of the job of a task, a failed one only if there is no other; None if none is listed.

        A list that cannot be read counts as empty: the service need not offer it.
        """
        try:
            listed = self._call(
                "GET", "jobs", "list jobs", lambda response: read_jobs(response.body), retry_minutes=0.0
            )
        except (RequestRefused, UserError):
            return None
        jobs = sorted(listed.get(task, []))
        return jobs[0][1] if jobs else None

    def cancel(self, job: int) -> None:
        """Cancel a job."""
        self._call("DELETE", f"jobs/{job}", f"cancel job {job}", _read_confirmation)

    def tables(self, retry_minutes: float | None = None) -> dict[str, int]:
        """Number of rows of each table in MyDB, by its name in lower case."""
        label = "list MyDB"
        return self._call(
            "GET",
            "contexts/MyDB/Tables",
            label,
            lambda response: read_tables(response.body),
            retry_minutes=retry_minutes,
        )

    def read(self, sql: str, label: str) -> pd.DataFrame:
        """Result of a quick query in MyDB."""
        return self._call("POST", "contexts/MyDB/query", label, read_page, _quick_query(sql), "text/plain")

    def drop(self, table: str, retry_minutes: float | None = None) -> None:
        """Drop a table of MyDB if it exists; `retry_minutes` replaces the configuration's."""
        if table.lower() not in self.tables(retry_minutes):
            return
        body = _quick_query(f"DROP TABLE {table}")
        try:
            self._call(
                "POST", "contexts/MyDB/query", f"drop {table}", _read_confirmation, body, "text/plain", retry_minutes
            )
        except RequestRefused:
            if table.lower() in self.tables(retry_minutes):  # else an attempt whose response was lost dropped it
                raise

    def _call(self, method, path, label, read, body=None, accept="application/json", retry_minutes=None):
        """Send a request until `read` parses its response; `retry_minutes` replaces the configuration's."""
        archive = self._archive
        if retry_minutes is not None:
            archive = archive.model_copy(update={"patience_minutes": retry_minutes})

        def attempt():
            response = self._send(method, path, body, accept)
            message = self._message(response)
            if response.status >= 300 and SQL_ERROR.search(message):
                raise RequestRefused(label, response.status, message)
            http.check_status(response, message)
            if response.status >= 300:
                raise RequestRefused(label, response.status, message)
            try:
                return read(response)
            except ValueError as error:
                reason = self._account.redact(str(error))
            raise TransientError(http.WEB_PAGE if http.is_web_page(response.body) else reason)

        return http.with_retries(attempt, archive.casjobs, archive, label)

    def _send(self, method, path, body, accept):
        """Send one request; if its token has expired, again with a new one."""
        url = f"{self._archive.casjobs.rstrip('/')}/{path}"
        for renewals in range(MAX_RENEWALS + 1):
            headers = {"X-Auth-Token": self._account.token(), "Accept": accept}
            self._limiter.wait()
            response = http.request(method, url, self._archive, headers=headers, json=body)
            if not self._refuses_token(response):
                return response
            if renewals < MAX_RENEWALS:
                self._account.renew()
        raise UserError(
            f"CasJobs refuses the tokens that SciServer has just given: log in once at {self._archive.casjobs} with a "
            "browser, so that CasJobs knows the account, and check archive.login and archive.casjobs."
        )

    def _refuses_token(self, response):
        """Whether a response refuses the token: HTTP 401, or another status with a message about a token."""
        return response.status == 401 or (
            response.status in (400, 403, 500) and _BAD_TOKEN.search(self._message(response)) is not None
        )

    def _message(self, response):
        """The beginning of a response in one line; of an error the server's message alone."""
        text = response.body[:20_000].decode("utf-8", "replace")
        try:
            value = json.loads(text)
            text = str(value.get("Error Message") or value.get("Message") or text)
        except (ValueError, AttributeError):
            text = re.sub(r"(?s)<(style|script|head)\b.*?</\1>|<[^>]*>", " ", text)
        return self._account.redact(" ".join(text.split()))[:1000]


def _quick_query(sql):
    return {"Query": sql, "TaskName": "sdss-photoz MyDB"}


def _never_sent(error):
    """Whether a request failed before any of it can have reached the server."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    kinds = {kind.__name__ for kind in type(reason).__mro__}  # of urllib3, inside an error of requests
    return isinstance(error, requests.ConnectTimeout | ValueError) or "NewConnectionError" in kinds


def _read_confirmation(response):
    """Accept any response but a web page, which confirms nothing: ValueError."""
    if http.is_web_page(response.body):
        raise ValueError(http.WEB_PAGE)


def read_page(response: http.Response) -> pd.DataFrame:
    """Parse a page of CSV; ValueError if it is none or may be truncated.

    A body shorter than its announced length never gets here. Without one, only the end of the last line tells.
    """
    encoding = response.headers.get("Transfer-Encoding", "").lower()
    announced = "Content-Length" in response.headers or "chunked" in encoding
    if not announced and not response.body.endswith(b"\n"):
        raise ValueError("an answer that ends in mid-line")
    return read_result(response.body)


def read_status(body: bytes) -> Status:
    """Parse the status of a job; ValueError if it is none."""
    value = json.loads(body)
    if not isinstance(value, dict) or value.get("Status") not in range(len(STATES)):
        raise ValueError("an answer without the status of a job")
    rows, table = value.get("Rows"), str(value.get("Created_Table") or "")
    return Status(
        int(value["Status"]),
        rows if isinstance(rows, int) else None,
        " ".join(str(value.get("Message") or "").split()),
        table if re.fullmatch(r"\w+", table) else "",
        *(str(value.get(key) or "") for key in ("TimeSubmit", "TimeStart", "TimeEnd")),
    )


def read_tables(body: bytes) -> dict[str, int]:
    """Parse the list of tables in MyDB: numbers of rows by names in lower case; ValueError if it is none."""
    listed = json.loads(body)
    if not isinstance(listed, list) or not all(isinstance(entry, dict) and "Name" in entry for entry in listed):
        raise ValueError("an answer without a list of tables")
    return {str(entry["Name"]).lower(): int(entry.get("Rows") or 0) for entry in listed}


def read_jobs(body: bytes) -> dict[str, list[tuple[bool, int]]]:
    """Parse the list of jobs: (whether it failed, number) by the name of the task; ValueError if it is none."""
    listed = json.loads(body)
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ValueError("an answer without a list of jobs")
    jobs = {}
    for entry in listed:
        if isinstance(entry.get("JobID"), int):
            failed = entry.get("Status") in (CANCELED, FAILED)
            jobs.setdefault(entry.get("TaskName"), []).append((failed, entry["JobID"]))
    return jobs
