"""nbbp reproduce."""

from nbbp.cli.commands import Command, check_folder

EXAMPLES = """\
  nbbp reproduce
  nbbp reproduce symmetry_1986
  nbbp reproduce dropout_2014 --output dropout.png"""


def register(command: Command) -> None:
    sub = command("reproduce", reproduce, EXAMPLES)
    sub.add_argument("name", nargs="?", metavar="NAME", help="a paper; without it, all are listed with their seconds")
    sub.add_argument("--output", metavar="FILE", help="the figure (nbbp-NAME.png)")


def reproduce(arguments) -> int:
    """Reproduce a paper: its claims, its figure, and loss curves with the published bits."""
    from nbbp import papers

    if arguments.name is None:
        for name, paper in papers.PAPERS.items():
            print(f"{name:22} {paper.seconds:4} s  {paper}")
        return 0
    papers.script(arguments.name)
    picture = arguments.output or f"nbbp-{arguments.name}.png"
    check_folder(picture)
    return 0 if papers.check(arguments.name, papers.load(arguments.name).reproduce, picture) else 1
