"""What a network is, computes and learns, in words and numbers."""
