"""The context in which every script of the workflow runs: log file, messages and errors."""

import errno
import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

from sdss_photoz.errors import UserError
from sdss_photoz.files import DISK_FULL
from sdss_photoz.progress import messages_on_stderr

DISK_ERRORS = (*DISK_FULL, errno.EACCES, errno.EROFS)  # full, or not writable: not a bug


class _Tee:
    """A text stream that writes whole lines to the log file and to the terminal; a redrawn bar becomes a new line.

    Each thread has its own unfinished line, because `print` writes a line and its end in two calls.
    """

    def __init__(self, log, terminal):
        self._log, self._terminal, self._pending, self._lock = log, terminal, threading.local(), threading.Lock()

    def write(self, text):
        if text.startswith("\r"):
            self._write_line(text.strip("\r"))
        else:
            *lines, self._pending.text = (getattr(self._pending, "text", "") + text).split("\n")
            for line in lines:
                self._write_line(line)
        return len(text)

    def _write_line(self, line):
        if line.strip():
            with self._lock:
                for stream in (self._log, self._terminal):
                    stream.write(line.rstrip() + "\n")
                    stream.flush()

    def flush(self):
        """Do nothing: lines are flushed as they are written."""

    def close(self):
        self._write_line(getattr(self._pending, "text", ""))

    def isatty(self):
        return False


@contextmanager
def stage(snakemake):
    """Run a rule's script: messages and progress go to its log and to the terminal, a `UserError` is one sentence.

    Parameters
    ----------
    snakemake : object
        The object that Snakemake gives to scripts; its ``log[0]`` names the log file.

    Raises
    ------
    SystemExit
        With status 1 after any exception. Log and terminal get the message of a `UserError`, a sentence for a disk that
        is full or not writable, and the traceback of anything else, which is a bug.
    """
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    terminal = sys.stderr
    with open(path, "w", encoding="utf-8") as log:
        sys.stderr = tee = _Tee(log, terminal)
        try:
            with messages_on_stderr():
                yield
        except UserError as error:
            print(f"{snakemake.rule}: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
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
            tee.close()
            sys.stderr = terminal
