"""The command line: nbbp train | predict | plot | export | demo | compare | reproduce | bench | warmup | info."""

import argparse
import os
import sys
from collections.abc import Sequence

from nbbp._version import __version__
from nbbp.cli import bench, digits, info, plot, predict, reproduce, train, warmup
from nbbp.distributed import RankError, is_first
from nbbp.exchange import command as export
from nbbp.training.trainer import DivergenceError

COMMANDS = (train, predict, plot, digits, reproduce, bench, warmup, info)

EPILOG = """\
exit codes: 0 done, 1 tried and failed, 2 wrong arguments or data, 130 stopped by Ctrl-C,
143 by SIGTERM

nbbp COMMAND --help has examples."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nbbp",
        description="Neural networks trained by compiled backpropagation.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function, examples: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=function.__doc__,
            description=function.__doc__,
            epilog=examples and f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(function=function)
        return sub

    for module in COMMANDS:
        module.register(command)
    export.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.function(arguments) or 0
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has seen enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, OSError, ImportError, DivergenceError, RankError) as error:
        if is_first():
            print(f"nbbp {arguments.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1 if isinstance(error, ImportError | DivergenceError | RankError) else 2
