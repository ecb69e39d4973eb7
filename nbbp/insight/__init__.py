"""Summaries, comparisons, inspection and diagnosis of a network."""
