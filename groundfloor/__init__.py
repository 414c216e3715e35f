"""The ground floor of the three studies: data sets, run folders, command lines, plots."""
