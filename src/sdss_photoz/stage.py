"""The frame around every script of the workflow: its log, its messages, its errors."""

import sys
from contextlib import contextmanager
from pathlib import Path

from sdss_photoz.errors import UserError


class _Both:
    """A text stream that writes to the log file and to the terminal; redrawn bars become lines."""

    def __init__(self, log, terminal):
        self._log, self._terminal = log, terminal

    def write(self, text):
        text = text.replace("\r", "\n") if text.strip("\r") else ""
        if text.strip() or text == "\n":
            self._log.write(text)
            self._terminal.write(text)
            self._log.flush()
        return len(text)

    def flush(self):
        self._log.flush()
        self._terminal.flush()

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
        With status 1 after a `UserError`, whose sentence stands in the log and on the terminal. Any other exception is
        a bug: its traceback goes to both.
    """
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    terminal = sys.stderr
    with open(path, "w", encoding="utf-8") as log:
        sys.stderr = _Both(log, terminal)
        try:
            yield
        except UserError as error:
            print(f"{snakemake.rule}: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        except Exception:
            import traceback

            traceback.print_exc()
            raise SystemExit(1) from None
        finally:
            sys.stderr = terminal
