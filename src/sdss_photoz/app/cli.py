"""The command ``sdss-photoz``."""

import argparse
import importlib
import json
import sys

from sdss_photoz import __version__
from sdss_photoz.errors import UserError
from sdss_photoz.progress import messages_on_stderr

COMMANDS = {
    "plan": ("sdss_photoz.app.plan", "estimate what a run will take: frames, bytes, disk, hours"),
    "cutouts": ("sdss_photoz.cubes.cutouts", "make cubes for a table of positions from a folder of frames"),
    "predict": ("sdss_photoz.app.predict", "redshifts of galaxies without spectra, by a finished run's networks"),
    "verify": ("sdss_photoz.cubes.verify", "check that a store of cubes is whole"),
    "evaluate": ("sdss_photoz.app.evaluate", "score the redshifts of any table"),
}


def main(arguments=None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : list of str, optional
        The words after ``sdss-photoz``; those of the command line by default.

    Returns
    -------
    int
        0, or 1 after a `UserError`, whose message is printed.
    """
    parser = argparse.ArgumentParser(prog="sdss-photoz", description="Photometric redshifts from SDSS images.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    words = sys.argv[1:] if arguments is None else arguments
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name in words:  # other commands' modules are not imported
            loaded = importlib.import_module(module)
            command.description = loaded.__doc__
            command.formatter_class = argparse.RawDescriptionHelpFormatter
            loaded.add_arguments(command)
            command.set_defaults(main=loaded.main)
    schema = commands.add_parser("schema", help="print the JSON schema of the configuration")
    schema.set_defaults(main=print_schema)
    chosen = parser.parse_args(words)
    try:
        with messages_on_stderr():
            chosen.main(chosen)
    except UserError as error:
        print(f"sdss-photoz {chosen.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reading program, such as `head`, has ended
        sys.stderr.close()
        return 0
    return 0


def print_schema(_) -> None:
    """Print the JSON schema of the configuration."""
    from sdss_photoz.config.document import json_schema

    print(json.dumps(json_schema(), indent=1, allow_nan=False))


if __name__ == "__main__":
    sys.exit(main())
