"""Kernels: their compilation, matrix products, elementary functions, threads."""
