"""What the layers share: how kernels are compiled, matrix products, elementary functions, threads."""
