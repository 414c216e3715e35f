"""What every command owes to a user who made a mistake."""

import pytest


def refusal(capsys, command):
    """Call command(), which must end in exit code 2 and one line on stderr; returns the line."""
    with pytest.raises(SystemExit) as stop:
        command()
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    return said.err
