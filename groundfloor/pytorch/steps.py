"""The training steps of every study: numbered, watched, and resumed to the bit.

A study keeps its own forward pass, optimizer and results in the body of the loop:

    for step, look in training_steps(begin, total, folder=folder, state=state):
        pixels, labels = batches.batch(images, size, seed, step, augment)
        ...
        if look:  # the loss is fetched and checked here alone
"""

import time

from groundfloor.pytorch import checkpoints

SECONDS = 30.0  # between two checkpoints


def training_steps(first, last, *, every=50, epoch=None, folder=None, state=None):
    """Yield (step, look) for the steps first, ..., last - 1.

    look: after every `every` steps of an epoch, at its end and after the last step; fetching
        numbers makes a GPU wait, so that a loss is worth looking at only then. epoch: its steps;
        none: all are one epoch.
    folder: of checkpoints of `state()`, a dict that holds all that training changes. They are
        written where there is a look, `SECONDS` after the one before, and after the last step.
    """
    epoch = epoch or last
    saved = time.monotonic()
    for step in range(first, last):
        within = step % epoch + 1
        look = within % every == 0 or within == epoch or step + 1 == last
        yield step, look
        due = time.monotonic() - saved > SECONDS or step + 1 == last
        if look and due and folder is not None:
            checkpoints.save(folder, step + 1, state())
            saved = time.monotonic()
