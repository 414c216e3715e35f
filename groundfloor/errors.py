"""The one exception that stands for a user's mistake, and those of files in its words."""

import contextlib
from pathlib import Path


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


def unreadable(path, error):
    """The UserError for a file or folder, perhaps whole, that an OSError or MemoryError keeps from
    being read."""
    if isinstance(error, FileNotFoundError) and not Path(path).exists():
        return UserError(f"{path} does not exist")
    why = "out of memory" if isinstance(error, MemoryError) else error.strerror or error
    return UserError(f"{path} cannot be read: {why}")


@contextlib.contextmanager
def reading(path, what):
    """For a block that makes `what`, such as "a functa", of a file: any error in it is a UserError
    that names the file and says in one line what is wrong with it."""
    try:
        yield
    except UserError:
        raise
    except (OSError, MemoryError) as error:
        raise unreadable(path, error) from None
    except Exception as error:  # of a damaged file: as many kinds as there is damage
        missing = error.args[0] if isinstance(error, KeyError) and error.args else None
        if isinstance(missing, str):  # a field
            raise UserError(f"{path} is not {what}: it lacks {missing}") from None
        raise UserError(f"{path} is damaged or not {what} ({first_line(error)})") from None
