"""Other ways to train, and to make a network smaller."""
