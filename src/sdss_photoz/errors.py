"""The one error that a user is meant to read."""


class UserError(Exception):
    """A problem that the user can mend.

    Its message is one sentence that names the thing, what was expected, what was found and what to do.
    The command line and the workflow's scripts print it without a traceback and exit with status 1.
    """
