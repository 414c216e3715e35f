"""One file per claim: question, command, expected number, minutes. Their results: results/."""
