"""The loop of a fit: trainers around bound steps, the history, checkpoints, signals and progress."""
