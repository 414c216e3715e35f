"""The ground floor of the three studies: data sets, run folders, command lines, plots."""

__version__ = "0.1.0"
