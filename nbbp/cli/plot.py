"""nbbp plot: the curves of several runs in one figure."""

import pathlib

from nbbp.cli.commands import Command, check_folder
from nbbp.cli.runs import read_history

EXAMPLES = """\
  nbbp plot iris-nbbp
  nbbp plot small large dropout --output curves.png
  nbbp plot iris-nbbp other/history.csv --output curves.svg"""


def register(command: Command) -> None:
    sub = command("plot", plot, EXAMPLES)
    sub.add_argument("runs", nargs="+", metavar="RUN", help="folder that nbbp train has written, or a history as CSV")
    sub.add_argument("--output", default="nbbp-plot.png", metavar="FILE", help="the figure (%(default)s)")


def plot(arguments) -> None:
    """Draw the loss curves of runs in one figure."""
    from nbbp import plots

    check_folder(arguments.output)
    histories = {run: read_history(run) for run in arguments.runs}
    short = [pathlib.Path(run).name for run in histories]
    labels = short if len(set(short)) == len(short) else list(histories)
    drawn = dict(zip(labels, histories.values(), strict=True))
    plots.loss_curves(drawn if len(drawn) > 1 else next(iter(drawn.values())), arguments.output)
    print(f"curves in {arguments.output}")
