"""Account of what was asked of the server."""

import csv
import dataclasses
import threading
import time
from collections import Counter
from contextlib import contextmanager

from sdss_photoz.errors import UserError

KINDS = ("login", "submit", "status", "cancel", "mydb", "tables", "sql", "frame")


@dataclasses.dataclass
class Request:
    """One request.

    Attributes
    ----------
    time : float
        When it came (seconds since 1970).
    kind : str
        One of `KINDS`.
    method, path : str
        Of HTTP; the path is without its query string.
    status : int
        Of the answer; 0 while there is none.
    bytes : int
        Length of the answer's body as sent.
    connections : int
        Requests of this kind that were being answered at once when it came, itself included.
    fault : str
        The fault that it met; empty without one.
    """

    time: float
    kind: str
    method: str
    path: str
    status: int = 0
    bytes: int = 0
    connections: int = 1
    fault: str = ""


class Log:
    """Requests in the order in which they came; as CSV, where a path is given, in the order in which they ended."""

    def __init__(self, path=None):
        self.requests: list[Request] = []
        self._under_way = Counter()
        self._lock = threading.Lock()
        self._file = None if path is None else _open(path)
        if self._file is not None:
            self._rows = csv.writer(self._file, lineterminator="\n")
            self._rows.writerow(field.name for field in dataclasses.fields(Request))

    @contextmanager
    def request(self, kind: str, method: str, path: str):
        """Give the record of a request that is answered within the block."""
        with self._lock:
            self._under_way[kind] += 1
            record = Request(time.time(), kind, method, path, connections=self._under_way[kind])
            self.requests.append(record)
        try:
            yield record
        finally:
            with self._lock:
                self._under_way[kind] -= 1
                if self._file is not None and not self._file.closed:
                    self._rows.writerow(dataclasses.astuple(record))

    def close(self) -> None:
        """Close the CSV."""
        if self._file is not None:
            self._file.close()


def _open(path):
    try:
        return open(path, "w", newline="", encoding="utf-8", buffering=1)  # a line at a time
    except OSError as error:
        raise UserError(f"the log {path} cannot be written: {error.strerror}.") from None
