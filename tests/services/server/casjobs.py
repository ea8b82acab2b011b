"""CasJobs and the login of SciServer."""

import asyncio
import dataclasses
import datetime
import itertools
import json
import re
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiohttp import web
from tests.services.server.limits import Limits
from tests.services.server.mydb import MyDB
from tests.services.server.sqlserver import SqlError, catalogue, in_thread, messages

from sdss_photoz.embedded import answer, tsql

ACCOUNT = ("astronomer", "frames-of-301")  # no secret: every server of the embedded archive has it
BASE = "/CasJobs/RestApi"
LOGIN = "/login-portal/keystone/v3/tokens"
READY, STARTED, CANCELING, CANCELED, FAILED, FINISHED = range(6)
WEB_SERVICES_ID = 1000000001
FIRST_JOB = 25186077
HOST, DATABASE = "SQL001DBHost", "sdss3q"
FAILURE = "A severe error occurred on the current command. The results, if any, should be discarded."
_INTO = re.compile(r"(?i)\binto\s+\[?mydb\]?\s*\.+\s*(?:\[?\w*\]?\s*\.\s*)?\[?(\w+)\]?")


@dataclasses.dataclass
class Job:
    """One batch query. Times are seconds since 1970."""

    id: int
    query: str
    task: str
    context: str
    submitted: float
    status: int = READY
    started: float | None = None
    ended: float | None = None
    rows: int | None = None
    message: str = ""
    created: str = ""
    fault: str | None = None
    cancelled: threading.Event = dataclasses.field(default_factory=threading.Event)

    def reply(self) -> dict:
        """The job as the service describes it."""
        into = _INTO.search(self.query)
        made = f"/*CASJOBS_INTO_TABLE:[{DATABASE}].mydb_{WEB_SERVICES_ID}.webuser.{into[1]}*/" if into else ""
        return {
            "Status": self.status,
            "TimeStart": _date(self.started),
            "Rows": self.rows,
            "Target": self.context,
            "SendEmail": 0,
            "Message": self.message,
            "ModifiedQuery": _INTO.sub(made, self.query) if into else self.query.rstrip(),
            "Created_Table": self.created,
            "TimeEnd": _date(self.ended),
            "JobID": self.id,
            "WebServicesID": WEB_SERVICES_ID,
            "TimeSubmit": _date(self.submitted),
            "Params": "",
            "HostIP": f"{HOST if self.started else '':15}",
            "Query": self.query,
            "Estimate": 500,
            "OutputType": "QUERY",
            "TaskName": self.task,
            "OutputLoc": "",
            "AutoComplete": 0,
        }


def _date(seconds):
    """A time as .NET prints it: milliseconds, without zeros at the end."""
    if seconds is None:
        return None
    text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    return text.rstrip("0").rstrip(".")


class CasJobs:
    """The service.

    Parameters
    ----------
    catalog : Path
        The catalogue.
    release : int
        Data release: names the context.
    limits : Limits
        `seconds` ends queries that wait for their answer.
    job_seconds : float
        How long a batch query takes at least: half of it in the queue.
    token_seconds : float
        Lifetime of a token.
    """

    def __init__(self, catalog: Path, release: int, limits: Limits, job_seconds: float, token_seconds: float):
        self.catalog, self.context, self.limits = catalog, f"DR{release}", limits
        self.job_seconds, self.token_seconds = job_seconds, token_seconds
        self.mydb = MyDB(limits.seconds)
        self.jobs: dict[int, Job] = {}
        self._ids = itertools.count(FIRST_JOB)
        self._tokens = {}  # token: when it expires
        self._workers = ThreadPoolExecutor(2, "job")

    def close(self) -> None:
        """End all jobs."""
        for job in self.jobs.values():
            self._cancel(job)
        self._workers.shutdown(cancel_futures=True)
        self.mydb.close()

    def routes(self) -> list:
        """(method, path, kind, handler) of each call; handlers take (request, fault)."""
        return [
            ("POST", LOGIN, "login", self.log_in),
            ("PUT", BASE + "/contexts/{context}/jobs", "submit", self.submit),
            ("GET", BASE + "/jobs", "status", self.list_jobs),
            ("GET", BASE + "/jobs/", "status", self.list_jobs),
            ("GET", BASE + "/jobs/{id}", "status", self.show),
            ("DELETE", BASE + "/jobs/{id}", "cancel", self.cancel),
            ("POST", BASE + "/contexts/{context}/query", "mydb", self.ask),
            ("GET", BASE + "/contexts/{context}/Tables", "tables", self.tables),
        ]

    # Tokens

    def give_token(self) -> str:
        """A new token."""
        token = secrets.token_hex(16)
        self._tokens[token] = time.monotonic() + self.token_seconds
        return token

    def expire(self, token: str) -> None:
        """End a token."""
        self._tokens.pop(token, None)

    async def log_in(self, request, fault):
        """Give a token for the name and password of the account."""
        try:
            user = (await request.json())["auth"]["identity"]["password"]["user"]
            given = user["name"], user["password"]
        except (ValueError, KeyError, TypeError):
            return _error(400, "The request is malformed.")
        if given != ACCOUNT:
            return _error(401, "The request you have made requires authentication.")
        token = {"token": {"user": {"name": ACCOUNT[0]}, "methods": ["password"]}}
        return web.json_response(token, headers={"X-Subject-Token": self.give_token()})

    def refusal(self, request):
        """The answer to a call without a valid token; None where it has one."""
        if self._tokens.get(request.headers.get("X-Auth-Token"), 0) > time.monotonic():
            return None
        return _error(401, "The token is not valid or has expired.")

    # Batch queries

    async def submit(self, request, fault):
        """Take a query into the queue; its id comes back."""
        if refused := self.refusal(request):
            return refused
        asked = await _asked(request)
        context = request.match_info["context"]
        if asked is None or context.lower() not in (self.context.lower(), "mydb"):
            return _error(400, f"There is no query, or no context {context}.")
        job = Job(next(self._ids), asked["Query"], asked.get("TaskName", ""), context, time.time(), fault=fault)
        self.jobs[job.id] = job
        if fault != "stuck":
            self._workers.submit(self._run, job)
        return web.Response(text=str(job.id))

    async def list_jobs(self, request, fault):
        """All jobs, the latest first."""
        return self.refusal(request) or web.json_response([job.reply() for job in reversed(self.jobs.values())])

    async def show(self, request, fault):
        """One job."""
        return self.refusal(request) or self._reply(request)

    async def cancel(self, request, fault):
        """Cancel a job that has not ended."""
        if refused := self.refusal(request):
            return refused
        if job := self._job(request):
            self._cancel(job)
        return self._reply(request)

    def _job(self, request):
        number = request.match_info["id"]
        return self.jobs.get(int(number)) if number.isdecimal() else None

    def _reply(self, request):
        job = self._job(request)
        return _error(404, "There is no such job.") if job is None else web.json_response(job.reply())

    def _cancel(self, job):
        if job.status == READY:
            job.status, job.ended = CANCELED, time.time()
        elif job.status == STARTED:
            job.status = CANCELING
        job.cancelled.set()

    def _run(self, job):
        if job.cancelled.wait(self.job_seconds / 2):
            return
        job.started, job.status = time.time(), STARTED
        try:
            job.rows, job.created = self._make_table(job)
            status, job.message = FINISHED, "Query Complete"
        except SqlError as error:
            status, job.message = FAILED, str(error)
        except Exception as error:  # a job that never ends would hide it
            status, job.message = FAILED, f"{type(error).__name__}: {error}"
        cancelled = job.cancelled.wait(self.job_seconds / 2)
        job.ended = time.time()
        job.status = CANCELED if cancelled else status

    def _make_table(self, job):
        if job.fault == "failed":
            raise SqlError(FAILURE)
        if job.context.lower() == "mydb":
            rows, name = self.mydb.rows_into(job.query, job.cancelled)
        else:
            with messages(job.query), catalogue(self.catalog, job.cancelled) as connection:
                rows, name = tsql.rows_into(connection, job.query)
        if job.cancelled.is_set():
            raise SqlError("Query canceled.")
        name = self.mydb.make(name, rows)
        if job.fault == "gone":
            self.mydb.drop(name)
        return rows.num_rows, name

    # Queries that wait for their answer

    async def ask(self, request, fault):
        """Answer a query of MyDB or of the catalogue."""
        if refused := self.refusal(request):
            return refused
        asked = await _asked(request)
        context = request.match_info["context"].lower()
        if asked is None or context not in (self.context.lower(), "mydb"):
            return _error(400, f"There is no query, or no context {request.match_info['context']}.")
        ask = self.mydb.ask if context == "mydb" else self._ask_catalogue
        try:
            table = await in_thread(ask, asked["Query"])
        except SqlError as error:
            return _error(400, str(error))
        if "json" in request.headers.get("Accept", ""):
            return web.json_response(text=await asyncio.to_thread(_as_json, table))
        return web.Response(text=await asyncio.to_thread(answer.to_csv, table))

    def _ask_catalogue(self, sql, cancelled):
        with messages(sql), catalogue(self.catalog, cancelled, self.limits.seconds) as connection:
            return tsql.run(connection, sql)

    async def tables(self, request, fault):
        """List MyDB."""
        return self.refusal(request) or web.json_response(await asyncio.to_thread(self.mydb.tables))


async def _asked(request):
    """The query that a call carries; None where there is none."""
    try:
        asked = await request.json()
    except ValueError:
        return None
    return asked if isinstance(asked, dict) and isinstance(asked.get("Query"), str) else None


def _as_json(table):
    result = {"Columns": list(table.columns), "Data": answer.to_values(table)}
    return json.dumps({"Result": [result]}, allow_nan=False)


def _error(status, text):
    reason = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}[status]
    return web.json_response({"Error Code": status, "Error Type": reason, "Error Message": text}, status=status)
