"""Serve the archive of an embedded run over HTTP, with the paths, limits and, on request, faults of the real services.

FOLDER is the archive folder of a finished run (results/<run>/archive): it holds catalog.duckdb and sas/. The keys of
the configuration that lead another run to the server are printed; it is stopped with Ctrl-C.

Faults are NAME=RATE or NAME@CALLS, such as --fault 503=0.05 or --fault frame:reset@2,5. Names: 429, 500, 502, 503,
html (an error page with status 200), hang, reset, truncated, flipped (bytes of a frame), 404 (of a frame), expired
(the token), failed, stuck, gone (a batch query that fails, never starts, or whose table is gone). Before a name may
stand the kind of request that is to meet it: login, submit, status, cancel, mydb, tables, sql or frame.
"""

import signal
import threading

from sdss_photoz.embedded.server import ACCOUNT, Faults, Limits, Server


def add_arguments(parser) -> None:
    """Add the words of ``sdss-photoz serve`` to an argparse parser."""
    usual = Limits()
    parser.add_argument("folder", metavar="FOLDER", help="archive folder of an embedded run")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any that is free)")
    parser.add_argument("--release", type=int, default=12, help="data release that it stands for (default 12)")
    parser.add_argument("--rows", type=int, default=usual.rows, help="rows of one answer (default %(default)s)")
    parser.add_argument(
        "--queries-per-minute",
        type=int,
        default=usual.queries_per_minute,
        help="queries a minute (default %(default)s)",
    )
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="longest query (default %(default)s s)")
    parser.add_argument("--job-seconds", type=float, default=0.0, help="how long a batch query takes at least")
    parser.add_argument("--token-seconds", type=float, default=86400.0, help="lifetime of a token (default a day)")
    parser.add_argument("--fault", action="append", default=[], metavar="FAULT", help="fault; may be given repeatedly")
    parser.add_argument("--retry-after", type=float, default=1.0, help="seconds that 429 and 503 ask for (default 1)")
    parser.add_argument("--log", metavar="FILE", help="CSV of all requests")


def main(arguments) -> None:
    """Run ``sdss-photoz serve``."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    server = Server(
        arguments.folder,
        release=arguments.release,
        port=arguments.port,
        limits=Limits(arguments.rows, arguments.queries_per_minute, arguments.seconds),
        faults=Faults.parse(arguments.fault, arguments.retry_after),
        log=arguments.log,
        host=arguments.host,
        job_seconds=arguments.job_seconds,
        token_seconds=arguments.token_seconds,
    )
    with server:
        print(f"# The account is SCISERVER_USER={ACCOUNT[0]} SCISERVER_PASSWORD={ACCOUNT[1]}\narchive:")
        print("  service: casjobs  # or skyserver")
        for key, value in {"release": arguments.release, **server.settings()}.items():
            print(f"  {key}: {value}")
        print(end="", flush=True)
        stop.wait()
