"""The parts of a convolutional network, studied one by one."""
