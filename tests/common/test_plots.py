"""common.plots: figures are written whole and leave matplotlib as it was."""

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from common.plots import figure


def test_a_figure_of_the_size_asked_for_leaves_a_notebook_as_it_was(tmp_path):
    before = mpl.get_backend(), dict(mpl.rcParams), plt.get_fignums()
    with figure(tmp_path / "new" / "f.png", 1, 2, size=(4, 3), sharey=True) as (made, (left, _)):
        left.plot([1, 2])
        made.suptitle("β ± 1")
    assert Image.open(tmp_path / "new" / "f.png").size == (800, 600)
    assert (mpl.get_backend(), dict(mpl.rcParams), plt.get_fignums()) == before


def test_nothing_is_written_of_a_figure_that_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), figure(tmp_path / "f.png", size=(4, 3)):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
