"""The error whose message is written for the user."""


class UserError(Exception):
    """A problem that the user can fix.

    The message is one sentence: what is wrong, what was expected, what was found and what to do. The command line and
    the workflow's scripts print it without a traceback and exit with status 1.
    """
