"""Faults on request: what the services do on their worse days.

A fault is written ``name=rate`` (``503=0.05``) or ``name@calls`` (``reset@2,5``: the second and fifth call that it
applies to), with a kind of request before it where it is to meet that kind alone (``frame:404@1``).
"""

import asyncio
import math
import random
import re
import socket
import struct
from typing import NamedTuple

from aiohttp import web
from tests.services.server.log import KINDS

from sdss_photoz.errors import UserError

CASJOBS = frozenset({"submit", "status", "cancel", "mydb", "tables"})
REFUSALS = {403: "Forbidden", 429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway"}
REFUSALS |= {503: "Service Unavailable", 504: "Gateway Time-out"}
BROKEN = ("reset", "truncated", "flipped")  # the answer is made, and spoiled on its way
JOBS = ("failed", "stuck", "gone")  # meet the job that a call submits
APPLIES = {  # to requests of these kinds
    **dict.fromkeys((*map(str, REFUSALS), "html", "hang", "reset", "truncated"), frozenset(KINDS)),
    **dict.fromkeys(("flipped", "404"), frozenset({"frame"})),
    **dict.fromkeys(JOBS, frozenset({"submit"})),
    "expired": CASJOBS,
}
MAINTENANCE = (
    "<html><head>\n<title>Skyserver Error</title>\n</head><body bgcolor=white>\n<h2>An error occured</h2>"
    "<H3 BGCOLOR=pink><font color=red>{}<br></font></H3></BODY></HTML>\n"
)
UNAVAILABLE = "<html><body><h1>{} {}</h1>\nNo server is available to handle this request.\n</body></html>\n"
FLIPPED_BYTES = 16
RESET_AFTER = 0.05  # seconds: time to read what was sent, which a reset discards
_WRITTEN = re.compile(r"(?:(?P<kind>\w+):)?(?P<name>\w+)(?:=(?P<rate>[\d.eE+-]+)|@(?P<calls>\d+(?:,\d+)*))")


class Fault:
    """One fault, assigned to the requests that it applies to."""

    def __init__(self, text: str, seed: int = 0):
        written = _WRITTEN.fullmatch(text)
        if written is None or written["name"] not in APPLIES:
            raise UserError(
                f"the fault {text!r} is not written as NAME=RATE or NAME@CALLS, such as 503=0.05 or frame:reset@2,5, "
                f"with one of the names {', '.join(APPLIES)}."
            )
        self.name, kinds = written["name"], APPLIES[written["name"]]
        if written["kind"] is not None and written["kind"] not in kinds:
            raise UserError(
                f"the fault {text!r} is for requests of kind {written['kind']!r}, but {self.name} meets those of kind "
                f"{', '.join(sorted(kinds))}."
            )
        self.kinds = kinds if written["kind"] is None else frozenset({written["kind"]})
        self._calls = {int(call) for call in (written["calls"] or "").split(",") if call}
        self._block = 0
        if written["rate"] is not None:
            try:
                self._block = round(1 / float(written["rate"]))
            except (ValueError, ZeroDivisionError):
                self._block = 0
            if self._block < 1:
                raise UserError(f"the fault {text!r} has a rate that is not between 0 and 1.")
        self._draw = random.Random(f"{seed} {text}")
        self._place = self._draw.randrange(self._block) if self._block else None
        self._count = self._due = 0

    def strikes(self, kind: str, free: bool) -> bool:
        """Count a request; whether it meets this fault. One that another fault took (not `free`) is made up for."""
        if kind not in self.kinds:
            return False
        if self._block:
            self._due += self._count % self._block == self._place
            if self._count % self._block == self._block - 1:
                self._place = self._draw.randrange(self._block)
        self._count += 1
        self._due += self._count in self._calls
        if not (free and self._due):
            return False
        self._due -= 1
        return True


class Assigned(NamedTuple):
    """Faults of one request: on the wire, and of the job that it submits."""

    wire: str | None = None
    job: str | None = None


class Faults:
    """The faults of a server.

    Rates are exact: of every block of round(1 / rate) requests that a fault applies to, exactly one
    meets it, so that each occurs in the first block and none clusters.

    Parameters
    ----------
    faults : list of Fault
        In the order in which they are tried; a request meets at most one on the wire.
    retry_after : float
        Seconds that 429 and 503 ask for.
    """

    def __init__(self, faults=(), retry_after: float = 1.0):
        self._faults, self.retry_after = list(faults), retry_after

    @classmethod
    def parse(cls, texts, retry_after: float = 1.0, seed: int = 0) -> "Faults":
        """Read faults as they are written.

        Raises
        ------
        UserError
            Where one is not understood.
        """
        return cls([Fault(text, seed) for text in texts], retry_after)

    def assign(self, kind: str) -> Assigned:
        """What the next request of a kind meets."""
        wire = job = None
        for fault in self._faults:
            if fault.name not in JOBS and fault.strikes(kind, wire is None):
                wire = fault.name
        submits = wire is None or wire in BROKEN
        for fault in self._faults:
            if fault.name in JOBS and fault.strikes(kind, submits and job is None):
                job = fault.name
        return Assigned(wire, job)

    def refusal(self, name: str) -> web.Response:
        """The answer that stands in for the real one."""
        if name == "html":
            return html_page(200, MAINTENANCE.format("The service is down for maintenance."))
        if name == "expired":
            return web.json_response({"Error Code": 401, "Error Message": "The token has expired."}, status=401)
        status = int(name)
        if status == 404:
            return html_page(404, "<html><head><title>404 Not Found</title></head><body>Not Found</body></html>")
        answer = html_page(status, UNAVAILABLE.format(status, REFUSALS[status]))
        if status in (429, 503):
            answer.headers["Retry-After"] = str(math.ceil(self.retry_after))
        return answer


def html_page(status: int, text: str) -> web.Response:
    """A page as the services show them."""
    return web.Response(status=status, text=text, content_type="text/html")


async def send_spoiled(request, answer: web.Response, fault: str) -> tuple[web.StreamResponse, int]:
    """Send an answer with a fault in its body.

    ``flipped`` inverts bytes in its middle; ``truncated`` closes the connection, and ``reset`` resets it, after half
    of the body that Content-Length promises.

    Returns
    -------
    StreamResponse
        What was sent.
    int
        Bytes of the body that were sent.
    """
    body = bytearray(b"" if request.method == "HEAD" else answer.body or b"")
    middle = len(body) // 2
    if fault == "flipped":
        middle = slice(middle, middle + FLIPPED_BYTES)
        body[middle] = bytes(255 - byte for byte in body[middle])
    else:
        body = body[:middle]
    spoiled = web.StreamResponse(status=answer.status, headers=answer.headers)
    spoiled.content_length = len(answer.body or b"")
    await spoiled.prepare(request)
    await spoiled.write(bytes(body))
    transport = request.transport
    if fault == "flipped":
        await spoiled.write_eof()
    elif fault == "reset" and transport is not None:
        await asyncio.sleep(RESET_AFTER)
        lingering = struct.pack("ii", 1, 0)  # close with RST
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
        transport.abort()
    elif transport is not None:
        transport.close()
    return spoiled, len(body)
