"""The report of a run: one page in words, figures and images."""
