"""CasJobs at SciServer: the account, and the calls of its REST service.

Paths, headers and replies are those of SciScript-Python, SciServer's own client
(https://github.com/sciserver/SciScript-Python, ``CasJobs.py`` and ``Authentication.py``).
"""

import json
import os
import re
import sys
from typing import NamedTuple

import requests

from sdss_photoz.archive import http
from sdss_photoz.archive.http import Faltering
from sdss_photoz.archive.question import read_answer
from sdss_photoz.errors import UserError

STATES = ("ready", "started", "canceling", "canceled", "failed", "finished")  # by the number that CasJobs gives
READY, STARTED, CANCELING, CANCELED, FAILED, FINISHED = range(6)
RENEWALS = 2  # log-ins for one call: a token may expire just as it comes, but not again and again
SAID = re.compile(  # what SQL Server says of a statement: asking again cannot help, whatever the HTTP status
    r"Invalid (object|column) name|already an object named|Cannot drop the table|Incorrect syntax|could not be bound",
    re.IGNORECASE,
)
_BAD_TOKEN = re.compile(
    r"\b(invalid|expired|missing|unauthori[sz]ed|not valid)\b.{0,40}\btoken\b|"
    r"\btoken\b.{0,40}\b(invalid|expired|missing|unauthori[sz]ed|required|not valid)\b",
    re.IGNORECASE,
)


class Refused(Exception):
    """CasJobs answered, and the answer is no."""

    def __init__(self, label: str, status: int, message: str):
        self.label, self.status, self.message = label, status, message
        super().__init__(f"{label}: HTTP {status}: {message}")


class Unanswered(Exception):
    """A job was sent, and nobody can tell whether CasJobs took it."""


class Status(NamedTuple):
    """What CasJobs says of a job.

    Attributes
    ----------
    code : int
        `READY` … `FINISHED`.
    rows : int or None
        Rows of its table, where it is finished.
    message : str
        The server's words.
    table : str
        The table that it made; empty where it made none.
    submitted, started, ended : str
        Times of the server's clock (ISO 8601); empty where there is none yet.
    """

    code: int
    rows: int | None
    message: str
    table: str
    submitted: str
    started: str
    ended: str


class Account:
    """Who asks: SCISERVER_TOKEN, or SCISERVER_USER and SCISERVER_PASSWORD, from the environment.

    Parameters
    ----------
    archive : config.Archive
        `login` is where tokens are given.
    environment : mapping, optional
        The environment; that of the process by default.

    Raises
    ------
    UserError
        Where nothing is set, half of it, or no such token can be.
    """

    def __init__(self, archive, environment=os.environ):
        self._archive = archive
        self._token = environment.get("SCISERVER_TOKEN", "").strip()
        self._user = environment.get("SCISERVER_USER", "").strip()
        self._password = environment.get("SCISERVER_PASSWORD", "")
        if not (self._token or self._user or self._password):
            raise UserError(
                "archive.service is casjobs, which needs an account at SciServer, but the environment has none: set "
                "SCISERVER_TOKEN, or SCISERVER_USER and SCISERVER_PASSWORD, or set archive.service: skyserver, which "
                "needs no account."
            )
        if not self._token and not (self._user and self._password):
            given, missing = ("USER", "PASSWORD") if self._user else ("PASSWORD", "USER")
            raise UserError(f"SCISERVER_{given} is set, but SCISERVER_{missing} is not: set both, or SCISERVER_TOKEN.")
        if self._token and not _is_token(self._token):
            raise UserError("SCISERVER_TOKEN holds blanks or characters that no token has: copy it once more.")

    def __repr__(self):
        return "Account(…)"  # no credential is ever printed

    def token(self) -> str:
        """The token that a call carries."""
        if not self._token:
            self.renew()
        return self._token

    def renew(self) -> None:
        """Log in for a new token.

        Raises
        ------
        UserError
            Where user and password are not known, or are refused.
        """
        if not (self._user and self._password):
            raise UserError(
                "SciServer refuses the token of SCISERVER_TOKEN, which is wrong or has expired: set a new one, or "
                "SCISERVER_USER and SCISERVER_PASSWORD, and run again; what came is kept."
            )
        user = {"name": self._user, "password": self._password}
        question = {"auth": {"identity": {"password": {"user": user}}}}
        url = self._archive.login

        def attempt():
            answer = http.once("POST", url, self._archive, json=question)
            if answer.status != 403 or http.is_page(answer.body):  # the service's own 403 is of a wrong password
                http.check_status(answer)
            token = answer.headers.get("X-Subject-Token", "").strip()
            if answer.status < 300 and not _is_token(token):
                raise Faltering("an answer without a token")
            return answer.status, token

        status, token = http.insist(attempt, url, self._archive, "log in to SciServer")
        if status in (400, 401, 403):
            raise UserError(
                "SciServer refuses the user and password of SCISERVER_USER and SCISERVER_PASSWORD: check that "
                "https://apps.sciserver.org takes them."
            )
        if status >= 300:
            raise UserError(f"{url} answered a log-in with HTTP {status}: check archive.login.")
        self._token = token
        print("logged in to SciServer", file=sys.stderr)

    def hide(self, text: str) -> str:
        """A text of the server without the token that it may repeat."""
        return text.replace(self._token, "…") if self._token else text


def _is_token(text):
    return re.fullmatch(r"[\x21-\x7e]+", text) is not None  # others would break, and show, the header


class CasJobs:
    """The REST calls of CasJobs; each is patient with a server that falters, and logs in again for a refused token.

    Each raises `Refused` where CasJobs says no, and UserError where patience ends or SciServer refuses the account.

    Parameters
    ----------
    archive : config.Archive
        Addresses, release, timeouts and patience.
    pace : http.Pace
        Waited for before each request, repeated ones too.
    """

    def __init__(self, archive, pace):
        self._archive, self._pace, self._account = archive, pace, Account(archive)

    def __repr__(self):
        return f"CasJobs({self._archive.casjobs!r})"

    def submit(self, sql: str, task: str) -> int:
        """Send a batch query, once.

        It is sent again only where CasJobs cannot have taken it: no connection was made, or the answer is 401, 503 or a
        4xx that passes. Whether it was taken is unknown after a lost answer or another 5xx: a second job would cost the
        archive an hour and fail at the table of the first.

        Returns
        -------
        int
            Number of the job.

        Raises
        ------
        Unanswered
            Where it may have been taken or not.
        Refused
            Where CasJobs says no.
        """
        label, path = f"submit {task}", f"contexts/DR{self._archive.release}/jobs"

        def attempt():
            lost = None
            try:
                answer = self._send("PUT", path, {"Query": sql, "TaskName": task}, "text/plain")
            except requests.RequestException as error:
                if _never_sent(error):
                    raise
                lost = http.explain(error)
            if lost:
                raise Unanswered(lost)  # here, with no error behind it that would hold the token
            said = self._words(answer)
            if answer.status < 500 or answer.status == 503:
                http.check_status(answer, said)
            if answer.status < 300 and said.isdecimal():
                return int(said)
            if 300 <= answer.status < 500 or SAID.search(said):
                raise Refused(label, answer.status, said)
            page = f"{http.PAGE}: " if http.is_page(answer.body) else ""
            raise Unanswered(f"HTTP {answer.status} {answer.reason} without a job's number: {page}{said or 'no word'}")

        return http.insist(attempt, self._archive.casjobs, self._archive, label)

    def status(self, job: int) -> Status:
        """Look at a job."""
        return self._call("GET", f"jobs/{job}", f"look at job {job}", lambda answer: read_status(answer.body))

    def find(self, task: str) -> int | None:
        """Number of the job of a task's name, a failed one only where there is no other; None where none is listed.

        The list is a help that the service need not give: where it cannot be read, that is as if it were empty.
        """
        try:
            listed = self._call("GET", "jobs", "list jobs", lambda answer: read_jobs(answer.body), patience=0.0)
        except (Refused, UserError):
            return None
        jobs = sorted(listed.get(task, []))
        return jobs[0][1] if jobs else None

    def cancel(self, job: int) -> None:
        """Cancel a job."""
        self._call("DELETE", f"jobs/{job}", f"cancel job {job}", _read_word)

    def tables(self, patience: float | None = None) -> dict[str, int]:
        """Rows of each table in MyDB, by its name in lower case."""
        return self._call(
            "GET", "contexts/MyDB/Tables", "list MyDB", lambda answer: read_tables(answer.body), patience=patience
        )

    def read(self, sql: str, label: str):
        """The answer of a quick query in MyDB, as a DataFrame."""
        return self._call("POST", "contexts/MyDB/query", label, read_page, _quick(sql), "text/plain")

    def drop(self, table: str, patience: float | None = None) -> None:
        """Drop a table of MyDB where there is one; with another patience (minutes) than the config's."""
        if table.lower() not in self.tables(patience):
            return
        sql = _quick(f"DROP TABLE {table}")
        try:
            self._call("POST", "contexts/MyDB/query", f"drop {table}", _read_word, sql, "text/plain", patience)
        except Refused:
            if table.lower() in self.tables(patience):  # else the first of two requests did it, its answer was lost
                raise

    def _call(self, method, path, label, read, body=None, accept="application/json", patience=None):
        """Ask until `read` makes sense of the answer; `patience` (minutes) may be another one than the config's."""
        archive = self._archive
        if patience is not None:
            archive = archive.model_copy(update={"patience_minutes": patience})

        def attempt():
            answer = self._send(method, path, body, accept)
            said = self._words(answer)
            if answer.status >= 300 and SAID.search(said):
                raise Refused(label, answer.status, said)
            http.check_status(answer, said)
            if answer.status >= 300:
                raise Refused(label, answer.status, said)
            try:
                return read(answer)
            except ValueError as error:
                wrong = self._account.hide(str(error))
            raise Faltering(http.PAGE if http.is_page(answer.body) else wrong)

        return http.insist(attempt, archive.casjobs, archive, label)

    def _send(self, method, path, body, accept):
        """Send one request; where its token has expired, with a new one."""
        url = f"{self._archive.casjobs.rstrip('/')}/{path}"
        for renewals in range(RENEWALS + 1):
            headers = {"X-Auth-Token": self._account.token(), "Accept": accept}
            self._pace.wait()
            answer = http.once(method, url, self._archive, headers=headers, json=body)
            if not self._refuses_token(answer):
                return answer
            if renewals < RENEWALS:
                self._account.renew()
        raise UserError(
            f"CasJobs refuses the tokens that SciServer has just given: log in once at {self._archive.casjobs} with a "
            "browser, so that CasJobs knows the account, and check archive.login and archive.casjobs."
        )

    def _refuses_token(self, answer):
        """Whether an answer refuses the token: with 401, or with another status and words of a token."""
        return answer.status == 401 or (
            answer.status in (400, 403, 500) and _BAD_TOKEN.search(self._words(answer)) is not None
        )

    def _words(self, answer):
        """The beginning of an answer in one line: of an error the server's own words."""
        text = answer.body[:20_000].decode("utf-8", "replace")
        try:
            said = json.loads(text)
            text = str(said.get("Error Message") or said.get("Message") or text)
        except (ValueError, AttributeError):
            text = re.sub(r"(?s)<(style|script|head)\b.*?</\1>|<[^>]*>", " ", text)
        return self._account.hide(" ".join(text.split()))[:1000]


def _quick(sql):
    return {"Query": sql, "TaskName": "sdss-photoz MyDB"}


def _never_sent(error):
    """Whether a request failed before anything of it can have come to the server."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    kinds = {kind.__name__ for kind in type(reason).__mro__}  # of urllib3, which requests hands on
    return isinstance(error, requests.ConnectTimeout | ValueError) or "NewConnectionError" in kinds


def _read_word(answer):
    """An answer that says no more than that it is done; a page of HTML says nothing."""
    if http.is_page(answer.body):
        raise ValueError(http.PAGE)


def read_page(answer: http.Answer):
    """Read a page of CSV: ValueError where it is none, or may have lost its end.

    What is shorter than the length that was announced never comes here. Where none was announced, only the end of the
    last line tells.
    """
    announced = "Content-Length" in answer.headers or "chunked" in answer.headers.get("Transfer-Encoding", "").lower()
    if not announced and not answer.body.endswith(b"\n"):
        raise ValueError("an answer that ends in mid-line")
    return read_answer(answer.body)


def read_status(body: bytes) -> Status:
    """Read what CasJobs says of a job: ValueError where it says nothing of the kind."""
    said = json.loads(body)
    if not isinstance(said, dict) or said.get("Status") not in range(len(STATES)):
        raise ValueError("an answer without the status of a job")
    rows, table = said.get("Rows"), str(said.get("Created_Table") or "")
    return Status(
        int(said["Status"]),
        rows if isinstance(rows, int) else None,
        " ".join(str(said.get("Message") or "").split()),
        table if re.fullmatch(r"\w+", table) else "",
        *(str(said.get(key) or "") for key in ("TimeSubmit", "TimeStart", "TimeEnd")),
    )


def read_tables(body: bytes) -> dict[str, int]:
    """Read the list of tables in MyDB: their rows by their names in lower case; ValueError where it is none."""
    listed = json.loads(body)
    if not isinstance(listed, list) or not all(isinstance(entry, dict) and "Name" in entry for entry in listed):
        raise ValueError("an answer without a list of tables")
    return {str(entry["Name"]).lower(): int(entry.get("Rows") or 0) for entry in listed}


def read_jobs(body: bytes) -> dict[str, list[tuple[bool, int]]]:
    """Read the list of jobs: (whether it failed, number) by the name of the task; ValueError where it is none."""
    listed = json.loads(body)
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ValueError("an answer without a list of jobs")
    jobs = {}
    for entry in listed:
        if isinstance(entry.get("JobID"), int):
            failed = entry.get("Status") in (CANCELED, FAILED)
            jobs.setdefault(entry.get("TaskName"), []).append((failed, entry["JobID"]))
    return jobs
