"""What scikit-learn's networks do after each epoch besides stopping: a falling learning rate, and a line of text."""

from nbbp.callbacks import Callback


class InverseScaling(Callback):
    """The learning rate of each epoch is initial / (rows seen + 1)^power.

    Parameters
    ----------
    initial, power : float
    seen : int
        The number of rows trained on before, repetitions included.
    rows : int
        The number of rows in an epoch.
    """

    def __init__(self, initial: float, power: float, seen: int, rows: int) -> None:
        self.initial, self.power, self.seen, self.rows = initial, power, seen, rows

    def on_fit_begin(self, fit):
        fit.model.learning_rate = self.initial / (self.seen + 1) ** self.power

    def on_epoch_end(self, fit):
        self.seen += self.rows
        self.on_fit_begin(fit)


class Lines(Callback):
    """Print a line for each epoch."""

    def on_epoch_end(self, fit):
        values = ", ".join(f"{name} = {values[-1]:.8g}" for name, values in fit.history.epochs.items())
        print(f"Iteration {len(fit.history)}, {values}", flush=True)
