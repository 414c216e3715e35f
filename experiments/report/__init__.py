"""The paper: text in paper/, numbers in facts/, all of them from the result files."""
