"""plots: figures are written whole and leave matplotlib as it was."""

from functools import partial

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from groundfloor import plots
from groundfloor.plots import as_rgb, figure


def test_a_figure_of_the_size_asked_for_leaves_a_notebook_as_it_was(tmp_path):
    before = mpl.get_backend(), dict(mpl.rcParams), plt.get_fignums()
    with figure(tmp_path / "new" / "f.png", 1, 2, size=(4, 3), sharey=True) as (made, (left, _)):
        left.plot([1, 2])
        made.suptitle("β ± 1")
    assert Image.open(tmp_path / "new" / "f.png").size == (800, 600)
    assert (mpl.get_backend(), dict(mpl.rcParams), plt.get_fignums()) == before


def test_no_two_of_many_lines_are_alike_and_a_label_stands_in_a_legend_once(tmp_path):
    styles = [plots.many(number) for number in range(24)]
    assert len({tuple(style.values()) for style in styles}) == 24
    with figure(tmp_path / "f.png", 1, 2, size=(4, 3)) as (made, axes):
        for axis in axes:
            axis.plot([1, 2], label="both")
        axes[1].plot([2, 1], label="right")
        shown = plots.legend(made, axes)
    assert [text.get_text() for text in shown.get_texts()] == ["both", "right"]


@pytest.mark.parametrize(
    "values, inside, outside", [([1.2, 6], {2, 5}, set()), ([0.02, 300], {0.1, 1, 100}, {2, 5})]
)
def test_a_logarithmic_axis_has_plain_numbers(values, inside, outside, tmp_path):
    with figure(tmp_path / "f.png", size=(3, 3)) as (_, axis):
        axis.plot(values, values)
        plots.logarithmic(axis, "y")
    names = {float(label.get_text()) for label in axis.get_yticklabels()}
    assert inside <= names and not outside & names and axis.get_yscale() == "log"


def test_nothing_is_written_of_a_figure_that_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), figure(tmp_path / "f.png", size=(4, 3)):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_pdf_stands_beside_png_until_png_alone_is_asked_for(tmp_path):
    for kind, name in (("pdf", "a.5"), ("png", "b.5"), ("svg", "c.5")):
        plots.use(kind)
        with figure(tmp_path / f"{name}.png", size=(1, 1)):
            pass
    assert {path.name for path in tmp_path.iterdir()} == {
        *("a.5.pdf", "a.5.png", "b.5.png", "c.5.png", "c.5.svg")
    }
    assert (tmp_path / "a.5.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in (tmp_path / "c.5.svg").read_text()
    plots.use("png")


@pytest.mark.parametrize("dtype, white", [(np.uint8, 255), (np.float32, 1)])
def test_any_channels_become_three_of_the_same_type(dtype, white):
    def shown(*pixel):
        found = as_rgb(np.array(pixel, dtype).reshape(1, 1, -1))
        assert found.dtype == dtype and found.shape == (1, 1, 3)
        return found.ravel()

    check = partial(np.testing.assert_allclose, rtol=1e-6)

    half = white // 5 if dtype == np.uint8 else 0.2  # a fifth
    check(shown(half), [half] * 3)
    check(shown(0, half, white), [0, half, white])
    check(shown(0, half, white, white), [0, half, white])  # opaque
    check(shown(0, half, white, 0), [white] * 3)  # nothing is seen
    check(shown(0, half), [white - half] * 3)  # a fifth of black
    check(shown(0, half, white, half, half), [0, half, white])
