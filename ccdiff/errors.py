"""The one exception whose message alone is meant for the user."""


class UserError(ValueError):
    """Bad input: the message says what is wrong, the offending value and what to do.

    Commands print it without a traceback and exit with status 1.
    """
