"""Serve the archive of an embedded run over HTTP, with the paths, limits and, on request, faults of the real services.

FOLDER is the archive folder of a finished run (results/<run>/archive): it holds catalog.duckdb and sas/. The keys of
the configuration that lead another run to the server are printed; it is stopped with Ctrl-C.

Faults are NAME=RATE or NAME@CALLS, such as --fault 503=0.05 or --fault frame:reset@2,5. Names: 403, 429, 500, 502,
503, 504, html (an error page with status 200), hang, reset, truncated, flipped (bytes of a frame), 404 (of a frame),
expired (the token), failed, stuck, gone (a batch query that fails, never starts, or whose table is gone). Before a
name may stand the kind of request that is to meet it: login, submit, status, cancel, mydb, tables, sql or frame.
"""

import argparse
import signal
import sys
import threading

from tests.services.server import ACCOUNT, Faults, Limits, Server

from sdss_photoz.errors import UserError


def parse(words=None) -> argparse.Namespace:
    """The words after ``python -m tests.services``."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.services", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = Limits()
    parser.add_argument("folder", metavar="FOLDER", help="archive folder of an embedded run")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any that is free)")
    parser.add_argument("--release", type=int, default=12, help="data release that it stands for (default 12)")
    for word, usually, least, what in (
        ("--rows", usual.rows, 1, "most rows of one answer of the SkyServer"),
        ("--queries-per-minute", usual.queries_per_minute, 1, "most queries a minute of the SkyServer"),
        ("--seconds", usual.seconds, 0.0, "longest query that waits for its answer"),
        ("--job-seconds", 0.0, 0.0, "shortest batch query of CasJobs: half of it in the queue"),
        ("--token-seconds", 86400.0, 0.0, "lifetime of a token of CasJobs"),
        ("--retry-after", 1.0, 0.0, "seconds that 429 and 503 ask for"),
    ):
        parser.add_argument(word, type=_from(least), default=usually, metavar="N", help=f"{what} (default {usually:g})")
    parser.add_argument("--fault", action="append", default=[], metavar="FAULT", help="fault; may be given repeatedly")
    parser.add_argument("--log", metavar="FILE", help="CSV of all requests")
    return parser.parse_args(words)


def _from(least):
    """A type for argparse: numbers of the type of `least` that are not below it."""

    def number(text):
        value = type(least)(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"{text} is below {least:g}")
        return value

    return number


def main(words=None) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises
    ------
    UserError
        Where the folder holds no catalogue, or the log or the port cannot be had.
    """
    arguments = parse(words)
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
        print(f"# The account is SCISERVER_USER={ACCOUNT[0]} SCISERVER_PASSWORD={ACCOUNT[1]}\nrun: served\narchive:")
        print("  service: casjobs  # or skyserver")
        for key, value in {"release": arguments.release, **server.settings()}.items():
            print(f"  {key}: {value}")
        print(end="", flush=True)
        stop.wait()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"python -m tests.services: {error}")
