"""Ctrl-C and SIGTERM during a fit: they end it between two mini-batches, when nothing is half done."""

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator


class Interrupts:
    """A context in which SIGINT and SIGTERM wait for `check`, or for the end; a second signal does not wait.

    SIGINT becomes KeyboardInterrupt and SIGTERM SystemExit, unless other handlers are installed. Only the main thread
    receives signals; in other threads this does nothing.

    Attributes
    ----------
    forced : bool
        Whether a second signal has interrupted the work at once.
    """

    def __init__(self) -> None:
        self.forced = False
        self._pending: int | None = None
        self._open = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) == default:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind, value, traceback) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if kind is None or issubclass(kind, Exception) or self._pending == signal.SIGTERM:
            self.check()

    def _handle(self, number: int, frame) -> None:
        if self._pending is not None:
            self.forced, self._pending = True, None
        if self._open or self.forced:
            _end(number)
        self._pending = number

    @property
    def pending(self) -> int | None:
        """The number of a signal that has arrived."""
        return self._pending

    def check(self, others: Iterable[int | None] = ()) -> None:
        """Raise the exception of a signal that has arrived here, or at other ranks."""
        number = next((number for number in (self._pending, *others) if number is not None), None)
        if number is not None:
            self._pending = None
            _end(number)

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """A context in which signals do not wait: its work may be interrupted anywhere."""
        self._open = True
        try:
            self.check()
            yield
        finally:
            self._open = False


def _end(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)  # a shell's exit code for a process that the signal has ended
