"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """A wrong flag, a missing or damaged file, an impossible value.

    The message is one line that says what is wrong and what to do; the command
    line prints it to stderr and exits with code 2 (`groundfloor.cli.run`).
    """
