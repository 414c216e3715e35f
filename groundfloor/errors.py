"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """A wrong flag, a missing or damaged file, an impossible value.

    The message says what is wrong and what to do, in one line whatever it quotes; the command line
    prints it to stderr and exits with code 2 (`groundfloor.cli.run`).
    """

    def __init__(self, message):
        super().__init__(" ".join(str(message).splitlines()))


def first_line(error):
    """The first line of an error's message, to quote in one line of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
