"""The door of CasJobs: a batch query into MyDB, fetched in pages, found again by a run that was killed.

The way of a question, and what the state folder holds of it at each step:

1. an old table of the same name is dropped, and the intent is written: ``job.json`` without a number;
2. the job is submitted, and its number is written. Where the answer is lost, or a kill falls between the two, a job may
   run whose number nobody knows: it is looked for in CasJobs' list of jobs, by the task's name, which is another one
   for each intent, and its table, whose name is the question's own, is waited for in MyDB. If none appears the query
   is submitted again; if the first job's table comes after all, the second one fails at its name, and that table is
   taken;
3. the job is looked at until it is finished, and its rows are written;
4. the table is read by its key, each page a file ``page-000.parquet``; all rows there, that is written too;
5. the table is dropped. The state folder stays until the answer is used (`question.forget`).
"""

import dataclasses
import functools
import itertools
import json
import re
import secrets
import shutil
import sys
import time
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from sdss_photoz import files
from sdss_photoz.archive import sciserver
from sdss_photoz.archive.http import Pace
from sdss_photoz.archive.question import Question, room, state_folder
from sdss_photoz.archive.sciserver import CasJobs, Refused, Status, Unanswered
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress

PAGE = 20_000  # rows: some 20 MB, sorted and sent well within the 60 s that CasJobs gives a quick query
LONGEST_POLL = 60.0  # seconds
LOOKS = 9  # for a job without a number or its table: 4 minutes
SUBMISSIONS = 5  # of one query whose answers are lost
PARTING_MINUTES = 1.0  # of patience with the last DROP TABLE, which nothing waits for
TAKEN = re.compile("already an object named", re.IGNORECASE)


def ask(question: Question, archive, folder) -> pd.DataFrame:
    """Ask CasJobs, with an account, and wait for the answer.

    Parameters
    ----------
    question : Question
        What is asked.
    archive : config.Archive
        Addresses, release, pauses, patience and deadline.
    folder : str or Path
        The run's archive folder.

    Returns
    -------
    DataFrame
        All rows, as `question.read_answer` reads them, ordered by the question's key.

    Raises
    ------
    UserError
        Where there is no account, the job fails or takes too long, or its rows are not all there.
    """
    kept = state_folder(question, archive, folder)
    try:
        with room(kept):
            return _Batch(question, archive, kept, Pace(Path(folder) / "queries", archive.queries_per_minute)).answer()
    except Refused as refused:
        sentence = (
            f"CasJobs refuses to {refused.label} (HTTP {refused.status}: {refused.message or 'no reason given'}): "
            "check archive.casjobs, archive.release and the rights of the account, and run again; what came is kept "
            f"in {kept}, without which the query is submitted anew."
        )
    raise UserError(sentence)


class _Gone(Exception):
    """The table of a finished job is not in MyDB."""


@dataclasses.dataclass
class _Job:
    """What is kept of a job: `number` is None until it is known, `rows` until it is finished."""

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
    def name(self):
        return f"CasJobs job {self.number}" if self.number else f"the CasJobs job of table {self.table}"


class _Batch:
    """The way of one question."""

    def __init__(self, question, archive, kept, pace):
        self.question, self.archive, self.kept, self.pace = question, archive, Path(kept), pace
        self.job = self._find()

    @functools.cached_property
    def service(self):
        return CasJobs(self.archive, self.pace)  # an answer that is here needs no account

    def answer(self):
        if self.job is None or not self.job.fetched:
            while not self._is_made():
                self._start_again()
        if not self.job.dropped:
            self._drop()
        return self._pages()

    # what is kept

    def _find(self):
        file = self.kept / "job.json"
        if not file.exists():
            return None
        job = _Job(**json.loads(file.read_text(encoding="utf-8")))
        return job if job.address == self.archive.casjobs else None

    def _keep(self, **changes):
        self.job = dataclasses.replace(self.job, **changes)
        files.write_json(self.kept / "job.json", dataclasses.asdict(self.job))

    def _forget(self):
        shutil.rmtree(self.kept)

    def _tell(self, text):
        print(f"{self.question.name}: {text}", file=sys.stderr)

    # the job

    def _is_made(self):
        """Have the job finished and all its rows here, going on from what is kept; False where its table is gone."""
        if self.job is None:
            self._begin(attempt=1)
        elif self.job.rows is None and self.job.number is None:
            self._tell("an earlier run ended as it submitted its job")
            if not self._search():
                self._tell("it is submitted again")
                self._submit()
        try:
            if self.job.rows is None:
                self._wait()
            self._fetch()
        except _Gone:
            return False
        return True

    def _start_again(self):
        """Submit once more after the table went; a second time is an error."""
        if self.job.attempt > 1:
            self._forget()
            raise UserError(
                f"the table {self.job.table} of {self.job.name} was dropped before it was read, twice: see at "
                f"{self.archive.casjobs} what drops tables of MyDB, and run again."
            )
        self._tell(f"the table {self.job.table} of {self.job.name} is gone: the query is submitted once more")
        self._begin(attempt=2)

    def _begin(self, attempt):
        own = [self.question.sql, self.archive.casjobs, self.archive.release, str(self.kept.resolve())]
        table = f"{self.question.table}_{files.digest(own)[:12]}"
        self.service.drop(table)
        for page in self.kept.glob("page-*.parquet"):
            page.unlink()
        task = f"sdss-photoz {self.question.name} {secrets.token_hex(4)}"
        self.job = _Job(self.archive.casjobs, table, task, time.time(), attempt)
        self._keep()
        self._submit()

    @property
    def _sql(self):
        return re.sub(rf"(?i)\bmydb\.{self.question.table}\b", f"mydb.{self.job.table}", self.question.sql)

    def _submit(self):
        for _ in range(SUBMISSIONS):
            refused = None
            try:
                number = self.service.submit(self._sql, self.job.task)
            except Unanswered as lost:
                reason = str(lost)
                self._tell(f"submitted, but the answer was lost ({reason})")
            except Refused as error:
                refused, reason = error, error.message
            else:
                self._keep(number=number, submitted=time.time())
                self._tell(f"submitted to DR{self.archive.release} as job {number}")
                return
            if refused and not TAKEN.search(refused.message):
                self._fail(f"CasJobs refuses the query (HTTP {refused.status})", refused.message)
            if self._search():
                return
            self._tell("it is submitted again")
        raise UserError(
            f"CasJobs lost its answer to {SUBMISSIONS} submissions of the query of {self.question.name}, and its table "
            f"{self.job.table} did not appear in MyDB ({reason}): see that {self.archive.casjobs} works and run again."
        )

    def _search(self, for_job=True):
        """Look for a job without a number, and wait for its table; True where one of the two came."""
        self._tell(f"the job of table {self.job.table} is looked for")
        before = None
        for pause in itertools.islice(self._pauses(), LOOKS):
            time.sleep(pause)
            if for_job and (number := self.service.find(self.job.task)):
                self._keep(number=number)
                self._tell(f"it is job {number}")
                return True
            before, rows = self.service.tables().get(self.job.table.lower()), before
            if before is not None and before == rows:
                self._take(rows)
                return True
        self._tell("it is not there")
        return False

    def _take(self, rows):
        """Go on with a table in MyDB that another job than the one with a number has made."""
        self._keep(rows=rows, number=None)
        self._tell(f"the table {self.job.table} is in MyDB, with {rows:,} rows")

    def _pauses(self):
        """Seconds before each look: none, then growing from the config's to a minute."""
        pause = self.archive.poll_seconds
        yield 0.0
        while True:
            yield pause
            pause = min(1.5 * pause, max(LONGEST_POLL, self.archive.poll_seconds))

    def _wait(self):
        """Look at the job until it is finished."""
        seen, deadline = None, self.job.submitted + 3600 * self.archive.query_hours
        for pause in self._pauses():
            time.sleep(max(0.0, min(pause, deadline - time.time())))
            status = self._look()
            if status.code != seen:
                self._tell(f"{self.job.name} is {sciserver.STATES[status.code]}{times(status)}")
                seen = status.code
            if status.code == sciserver.FINISHED:
                self._keep(table=status.table or self.job.table, rows=self._rows(status))
                return
            if status.code in (sciserver.CANCELED, sciserver.FAILED):
                if TAKEN.search(status.message) and self._search(for_job=False):
                    return
                verb = "failed" if status.code == sciserver.FAILED else "was canceled"
                self._fail(f"{self.job.name} {verb}", status.message)
            if time.time() >= deadline:
                self._give_up(status)

    def _look(self) -> Status:
        try:
            return self.service.status(self.job.number)
        except Refused as refused:
            if refused.status != 404:
                raise
            name = self.job.name
        self._forget()
        raise UserError(
            f"{name} of an earlier run is not known there: check that the account is the one that submitted it; the "
            "next run submits the query anew."
        )

    def _rows(self, status):
        if status.rows is not None:
            return status.rows
        rows = self.service.tables().get((status.table or self.job.table).lower())
        if rows is None:
            raise _Gone
        return rows

    def _fail(self, what, message):
        sql, line = self._sql, self.question.line_of(message)
        self._forget()
        raise UserError(f"{what}: {message or 'it gives no reason'}{line}: the query was\n{sql}")

    def _give_up(self, status):
        state, name = sciserver.STATES[status.code], self.job.name
        try:
            self.service.cancel(self.job.number)
            end = "was canceled"
        except (Refused, UserError):
            end = "could not be canceled either"
        self._forget()
        raise UserError(
            f"{name} was still {state} after {self.archive.query_hours:g} hours (archive.query_hours) and "
            f"{end}: run again to submit it anew, or raise archive.query_hours."
        )

    # its table

    def _fetch(self):
        """Read the table by its key, page after page; pages that are there are not asked for again."""
        key, rows = self.question.key, self.job.rows
        kept = self._page_files()
        lengths = [pq.read_metadata(file).num_rows for file in kept]
        total = sum(lengths)
        last = _last(pd.read_parquet(kept[-1]), key) if total else -1
        ended = bool(kept) and lengths[-1] < PAGE and total >= rows
        if not ended and self.job.table.lower() not in self.service.tables():
            raise _Gone
        with progress(total=rows, initial=total, unit="row", label=f"{self.question.name} from MyDB") as bar:
            while not ended:
                page = self._page(last)
                if len(page) or not kept:
                    kept.append(self.kept / f"page-{len(kept):03d}.parquet")
                    files.write_parquet(kept[-1], page)
                total += len(page)
                bar.update(len(page))
                if len(page):
                    last = _last(page, key)
                ended = page.empty or (len(page) < PAGE and total >= rows)  # a short page may have lost its end
        if total != rows:
            job = self.job
            self._forget()
            raise UserError(
                f"{job.name} made {rows:,} rows of {self.question.name}, but its table {job.table} gave "
                f"{total:,}: nothing of it is used; run again to submit the query anew."
            )
        self._keep(fetched=True)

    def _page(self, last):
        sql = (
            f"SELECT TOP {PAGE} * FROM {self.job.table} WHERE {self.question.key} > {last} ORDER BY {self.question.key}"
        )
        try:
            page = self.service.read(sql, f"read {self.question.name} after {self.question.key} {last}")
        except Refused:
            if self.job.table.lower() not in self.service.tables():
                raise _Gone from None
            raise
        if self.question.key.lower() not in [column.lower() for column in page.columns]:
            raise UserError(
                f"the answer of the casjobs archive to the query of {self.question.name} lacks the column "
                f"{self.question.key}: it has {', '.join(page.columns)}."
            )
        return page

    def _page_files(self):
        return sorted(self.kept.glob("page-*.parquet"))

    def _pages(self):
        return pd.concat([pd.read_parquet(file) for file in self._page_files()], ignore_index=True)

    def _drop(self):
        """Leave MyDB as it was; a failure is told, for the answer is here."""
        try:
            self.service.drop(self.job.table, patience=min(PARTING_MINUTES, self.archive.patience_minutes))
            self._keep(dropped=True)
        except (Refused, UserError) as error:
            self._tell(f"warning: the table {self.job.table} stays in MyDB, drop it there ({error})")


def _last(page, key):
    """The largest key of a page, whose name may come in another case."""
    return int(next(page[column] for column in page.columns if column.lower() == key.lower()).max())


def times(status: Status) -> str:
    """How long a job waited in the queue and ran, as far as its times say."""
    said = ""
    for verb, start, end in (
        ("waited", status.submitted, status.started),
        ("ran", status.started, status.ended),
    ):
        try:
            span = datetime.fromisoformat(end) - datetime.fromisoformat(start)
        except ValueError:
            continue
        said += f", {verb} {span.total_seconds():.1f} s"
    return said
