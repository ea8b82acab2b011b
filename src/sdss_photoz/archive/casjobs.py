"""Queries through CasJobs: a batch job writes a table in MyDB, which is downloaded in pages. A killed run resumes.

Steps of a query, and what its state folder holds after each:

1. Drop an old table of the same name; write ``job.json`` without a job number.
2. Submit the job and write its number. If the response is lost, or the run is killed in between, a job may run whose
   number is unknown. It is searched in CasJobs' list of jobs by its task name, which is unique to each submission, and
   by its table in MyDB, whose name follows from the query. If neither appears the query is submitted again; should the
   first job finish after all, the second one fails because the table exists, and that table is used.
3. Poll the job until it is finished, and write its number of rows.
4. Download the table to ``page-000.parquet`` and so on, and write that it is complete.
5. Drop the table. The state folder stays until the result is written (`query.remove_state`).
"""

import dataclasses
import functools
import itertools
import json
import logging
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pandas as pd

from sdss_photoz import files
from sdss_photoz.archive import mydb, sciserver
from sdss_photoz.archive.http import RateLimiter
from sdss_photoz.archive.query import Query, full_state_disk_as_user_error, state_folder
from sdss_photoz.archive.sciserver import CasJobs, RequestRefused, Status, SubmissionUnknown
from sdss_photoz.errors import UserError

MAX_POLL_SECONDS = 60.0
SEARCH_ATTEMPTS = 9  # for a job without a number, or its table: 4 minutes
MAX_SUBMISSIONS = 5  # of one query whose responses are lost
DROP_RETRY_MINUTES = 1.0  # of the final DROP TABLE, on which nothing depends
TABLE_EXISTS = re.compile("already an object named", re.IGNORECASE)

_logger = logging.getLogger(__name__)


def run_query(query: Query, archive, folder) -> pd.DataFrame:
    """Run a query through CasJobs, with an account, and wait for its result.

    Parameters
    ----------
    query : Query
        The query.
    archive : config.Archive
        Addresses, release, polling, retries and deadline.
    folder : str or Path
        The run's archive folder.

    Returns
    -------
    DataFrame
        All rows, as `query.read_result` parses them, ordered by the query's key.

    Raises
    ------
    UserError
        If there is no account, the job fails or takes too long, or rows are missing.
    """
    state = state_folder(query, archive, folder)
    try:
        with full_state_disk_as_user_error(state):
            limiter = RateLimiter(Path(folder) / "queries", archive.queries_per_minute)
            return _Batch(query, archive, state, limiter).result()
    except RequestRefused as refused:
        sentence = (
            f"CasJobs refuses to {refused.label} (HTTP {refused.status}: {refused.message or 'no reason given'}): "
            "check archive.casjobs, archive.release and the rights of the account, and run again; what came is kept "
            f"in {state}, without which the query is submitted anew."
        )
    raise UserError(sentence)  # outside of except: no context that holds a request


@dataclasses.dataclass
class _Job:
    """State of a job, kept in job.json: `number` is None until it is known, `rows` until the job is finished."""

    address: str
    table: str
    task: str
    submitted: float
    attempt: int = 1
    number: int | None = None
    rows: int | None = None
    fetched: bool = False
    dropped: bool = False

    @property
    def name(self) -> str:
        return f"CasJobs job {self.number}" if self.number else f"the CasJobs job of table {self.table}"


class _Batch:
    """One query as a batch job, with its state folder."""

    def __init__(self, query: Query, archive, folder: Path, limiter: RateLimiter):
        self.query, self.archive, self.folder, self.limiter = query, archive, folder, limiter
        self.job = self._load()

    @functools.cached_property
    def service(self) -> CasJobs:
        return CasJobs(self.archive, self.limiter)  # not needed, nor an account, once the result is here

    def result(self) -> pd.DataFrame:
        if self.job is None or not self.job.fetched:
            while not self._complete():
                self._resubmit()
        if not self.job.dropped:
            self._drop()
        return mydb.read_pages(self.folder)

    # the state folder

    def _load(self) -> _Job | None:
        path = self.folder / "job.json"
        if not path.exists():
            return None
        job = _Job(**json.loads(path.read_text(encoding="utf-8")))
        return job if job.address == self.archive.casjobs else None

    def _save(self, **changes) -> None:
        self.job = dataclasses.replace(self.job, **changes)
        files.write_json(self.folder / "job.json", dataclasses.asdict(self.job))

    def _remove_state(self) -> None:
        shutil.rmtree(self.folder)

    def _log(self, message: str, level: int = logging.INFO) -> None:
        _logger.log(level, "%s: %s", self.query.name, message)

    # the job

    def _complete(self) -> bool:
        """Finish the job and download all its rows, starting from the saved state; False if its table is gone."""
        if self.job is None:
            self._begin(attempt=1)
        elif self.job.rows is None and self.job.number is None:
            self._log("an earlier run ended as it submitted its job")
            if not self._search():
                self._log("it is submitted again")
                self._submit()
        try:
            if self.job.rows is None:
                self._wait()
            self._download()
        except mydb.TableGone:
            return False
        return True

    def _resubmit(self) -> None:
        """Submit once more after the table was dropped; UserError the second time."""
        if self.job.attempt > 1:
            self._remove_state()
            raise UserError(
                f"the table {self.job.table} of {self.job.name} was dropped before it was read, twice: see at "
                f"{self.archive.casjobs} what drops tables of MyDB, and run again."
            )
        self._log(f"the table {self.job.table} of {self.job.name} is gone: the query is submitted once more")
        self._begin(attempt=2)

    def _begin(self, attempt: int) -> None:
        """Drop what an earlier job left, and submit a new one."""
        identity = [self.query.sql, self.archive.casjobs, self.archive.release, str(self.folder.resolve())]
        table = f"{self.query.table}_{files.digest(identity)[:12]}"
        self.service.drop(table)
        for page in mydb.page_paths(self.folder):
            page.unlink()
        task = f"sdss-photoz {self.query.name} {secrets.token_hex(4)}"
        self.job = _Job(self.archive.casjobs, table, task, time.time(), attempt)
        self._save()
        self._submit()

    @property
    def _sql(self) -> str:
        """The query with the job's own table."""
        return re.sub(rf"(?i)\bmydb\.{self.query.table}\b", f"mydb.{self.job.table}", self.query.sql)

    def _submit(self) -> None:
        for _ in range(MAX_SUBMISSIONS):
            refused = None
            try:
                number = self.service.submit(self._sql, self.job.task)
            except SubmissionUnknown as lost:
                reason = str(lost)
                self._log(f"submitted, but the answer was lost ({reason})")
            except RequestRefused as error:
                refused, reason = error, error.message
            else:
                self._save(number=number, submitted=time.time())
                self._log(f"submitted to DR{self.archive.release} as job {number}")
                return
            if refused and not TABLE_EXISTS.search(refused.message):
                self._fail(f"CasJobs refuses the query (HTTP {refused.status})", refused.message)
            if self._search():
                return
            self._log("it is submitted again")
        raise UserError(
            f"CasJobs lost its answer to {MAX_SUBMISSIONS} submissions of the query of {self.query.name}, and its "
            f"table {self.job.table} did not appear in MyDB ({reason}): see that {self.archive.casjobs} works and run "
            "again."
        )

    def _search(self, for_job: bool = True) -> bool:
        """Search a job without a number, and wait for its table; whether one of the two was found."""
        self._log(f"the job of table {self.job.table} is looked for")
        before = None
        for pause in itertools.islice(self._poll_intervals(), SEARCH_ATTEMPTS):
            time.sleep(pause)
            if for_job and (number := self.service.find(self.job.task)):
                self._save(number=number)
                self._log(f"it is job {number}")
                return True
            before, rows = self.service.tables().get(self.job.table.lower()), before
            if before is not None and before == rows:  # it no longer grows
                self._use_table(rows)
                return True
        self._log("it is not there")
        return False

    def _use_table(self, rows: int) -> None:
        """Use a table in MyDB that a job without a known number created."""
        self._save(rows=rows, number=None)
        self._log(f"the table {self.job.table} is in MyDB, with {rows:,} rows")

    def _poll_intervals(self) -> Iterator[float]:
        """Seconds before each poll: 0, then from `poll_seconds` growing to `MAX_POLL_SECONDS`."""
        pause = self.archive.poll_seconds
        yield 0.0
        while True:
            yield pause
            pause = min(1.5 * pause, max(MAX_POLL_SECONDS, self.archive.poll_seconds))

    def _wait(self) -> None:
        """Poll the job until it is finished."""
        last_code, deadline = None, self.job.submitted + 3600 * self.archive.query_hours
        for pause in self._poll_intervals():
            time.sleep(max(0.0, min(pause, deadline - time.time())))
            status = self._poll()
            if status.code != last_code:
                self._log(f"{self.job.name} is {sciserver.STATES[status.code]}{times(status)}")
                last_code = status.code
            if status.code == sciserver.FINISHED:
                self._save(table=status.table or self.job.table, rows=self._rows(status))
                return
            if status.code in (sciserver.CANCELED, sciserver.FAILED):
                if TABLE_EXISTS.search(status.message) and self._search(for_job=False):
                    return
                verb = "failed" if status.code == sciserver.FAILED else "was canceled"
                self._fail(f"{self.job.name} {verb}", status.message)
            if time.time() >= deadline:
                self._cancel(status)

    def _poll(self) -> Status:
        try:
            return self.service.status(self.job.number)
        except RequestRefused as refused:
            if refused.status != 404:
                raise
            name = self.job.name
        self._remove_state()
        raise UserError(
            f"{name} of an earlier run is not known there: check that the account is the one that submitted it; the "
            "next run submits the query anew."
        )

    def _rows(self, status: Status) -> int:
        if status.rows is not None:
            return status.rows
        rows = self.service.tables().get((status.table or self.job.table).lower())
        if rows is None:
            raise mydb.TableGone
        return rows

    def _fail(self, what: str, message: str) -> None:
        sql, line = self._sql, self.query.line_of(message)
        self._remove_state()
        raise UserError(f"{what}: {message or 'it gives no reason'}{line}: the query was\n{sql}")

    def _cancel(self, status: Status) -> None:
        """Cancel the job at its deadline; raises UserError."""
        state, name = sciserver.STATES[status.code], self.job.name
        try:
            self.service.cancel(self.job.number)
            end = "was canceled"
        except (RequestRefused, UserError):
            end = "could not be canceled either"
        self._remove_state()
        raise UserError(
            f"{name} was still {state} after {self.archive.query_hours:g} hours (archive.query_hours) and "
            f"{end}: run again to submit it anew, or raise archive.query_hours."
        )

    # the table

    def _download(self) -> None:
        job = self.job
        total = mydb.download_table(self.service, self.query, job.table, job.rows, self.folder)
        if total != job.rows:
            self._remove_state()
            raise UserError(
                f"{job.name} made {job.rows:,} rows of {self.query.name}, but its table {job.table} gave "
                f"{total:,}: nothing of it is used; run again to submit the query anew."
            )
        self._save(fetched=True)

    def _drop(self) -> None:
        """Drop the table in MyDB; a failure is only logged, because the result is here."""
        try:
            self.service.drop(self.job.table, retry_minutes=min(DROP_RETRY_MINUTES, self.archive.patience_minutes))
            self._save(dropped=True)
        except (RequestRefused, UserError) as error:
            self._log(f"warning: the table {self.job.table} stays in MyDB, drop it there ({error})", logging.WARNING)


def times(status: Status) -> str:
    """Seconds that a job waited in the queue and ran, as text; empty for times that are not known."""
    text = ""
    for verb, start, end in (
        ("waited", status.submitted, status.started),
        ("ran", status.started, status.ended),
    ):
        try:
            span = datetime.fromisoformat(end) - datetime.fromisoformat(start)
        except ValueError:
            continue
        text += f", {verb} {span.total_seconds():.1f} s"
    return text
