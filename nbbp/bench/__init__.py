"""Benchmarks: workloads, peers, and how they are measured. Run by `nbbp bench`."""
