"""The frame around every script of the workflow: its log, its messages, its errors."""

import errno
import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

from sdss_photoz.errors import UserError
from sdss_photoz.files import FULL

DISK = (*FULL, errno.EACCES, errno.EROFS)  # full, or closed: nothing for a developer


class _Both:
    """A text stream that writes whole lines to the log file and to the terminal; a redrawn bar is a line of its own.

    Threads write at once, and `print` writes a line and its end one after the other: each has its own unfinished line.
    """

    def __init__(self, log, terminal):
        self._log, self._terminal, self._pending, self._turn = log, terminal, threading.local(), threading.Lock()

    def write(self, text):
        if text.startswith("\r"):
            self._say(text.strip("\r"))
        else:
            *lines, self._pending.text = (getattr(self._pending, "text", "") + text).split("\n")
            for line in lines:
                self._say(line)
        return len(text)

    def _say(self, line):
        if line.strip():
            with self._turn:
                for stream in (self._log, self._terminal):
                    stream.write(line.rstrip() + "\n")
                    stream.flush()

    def flush(self):
        """Nothing waits but an unfinished line."""

    def close(self):
        self._say(getattr(self._pending, "text", ""))

    def isatty(self):
        return False


@contextmanager
def stage(snakemake):
    """Run a rule's script: progress and warnings go to its log and to the terminal, a `UserError` is one sentence.

    Parameters
    ----------
    snakemake : object
        The object of that name that Snakemake gives to scripts; its ``log[0]`` names the log file.

    Raises
    ------
    SystemExit
        With status 1 after a `UserError`, whose sentence stands in the log and on the terminal; a disk that is full or
        closed is one too. Any other exception is a bug: its traceback goes to both.
    """
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    terminal = sys.stderr
    with open(path, "w", encoding="utf-8") as log:
        sys.stderr = both = _Both(log, terminal)
        try:
            yield
        except UserError as error:
            print(f"{snakemake.rule}: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK:
                print(
                    f"{snakemake.rule}: {error.filename or 'a file of the run'} cannot be read or written "
                    f"({os.strerror(error.errno)}): free some space there, or give yourself permission, and run again.",
                    file=sys.stderr,
                )
            else:
                import traceback

                traceback.print_exc()
            raise SystemExit(1) from None
        finally:
            both.close()
            sys.stderr = terminal
