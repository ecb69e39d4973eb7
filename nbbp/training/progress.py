"""Progress bars for terminals and notebooks, and lines for pipes and log files."""

import sys
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 10.0  # between two lines in a log file, at least


class _Lines(tqdm):
    """A line from time to time and one at the end: a log file would contain every carriage return of a bar.

    With `leave=False`, there is a line at the end only if others came before.
    """

    def __init__(self, *args, **settings) -> None:
        settings |= {"mininterval": LINE_SECONDS, "miniters": 1, "delay": LINE_SECONDS}
        super().__init__(*args, **settings)

    def display(self, msg=None, pos=None):
        self.fp.write(f"{self}\n")
        self.fp.flush()

    def close(self):
        if not self.disable:
            self.disable = True
            self._decr_instances(self)
            if self.leave or 0 < self.last_print_n < self.n:
                self.display()


class _Hidden:
    """A bar that is not shown: tqdm takes longer to make one than a short fit to run."""

    def __init__(self, initial: int = 0) -> None:
        self.n = initial

    def __enter__(self) -> "_Hidden":
        return self

    def __exit__(self, *error) -> None:
        pass

    def update(self, n: int = 1) -> None:
        self.n += n

    def set_description(self, *args, **settings) -> None:
        pass

    set_postfix_str = set_description


def bar(*args, **settings) -> Any:
    """A progress bar that suits the destination of standard error; the arguments are tqdm's."""
    if settings.get("disable"):
        return _Hidden(settings.get("initial", 0))
    if sys.stderr is None:  # pythonw
        return tqdm(*args, **settings | {"disable": True})
    if type(sys.stderr).__module__ == "ipykernel.iostream":
        return _in_notebooks()(*args, **settings)
    return (tqdm if sys.stderr.isatty() else _Lines)(*args, **settings)


def _in_notebooks() -> type[tqdm]:
    """A widget, or a bar of characters if ipywidgets is missing."""
    try:
        import ipywidgets  # noqa: F401
    except ImportError:
        return tqdm
    from tqdm.notebook import tqdm as widget

    return widget


def compiling(kernels):
    """Progress over kernels that may have to be compiled; silent if all come from the cache.

    Each is shown, so that the bar ends at 100 % even if the last kernels come from the cache.
    """
    return bar(
        kernels, desc="compiling kernels, once", unit="kernel", delay=0.5, mininterval=0, miniters=1, leave=False
    )
