"""Compilation in several processes: workers, see `nbbp.kernels.worker`, compile for this one.

Numba compiles one function at a time, whatever the number of threads. A first fit needs about twenty, so other
processes compile some of them into the cache on disk, from which this one loads them. They are new processes and not
forks or those of `multiprocessing`, which would copy a process that has threads, or run the user's script again.

This process takes functions from the front of the list while workers start, and they take them from its back:
neighbours often share functions of their own, which each process compiles for itself. Those with many lie at both ends,
so that nobody begins one of them when the others have nothing left to do. Functions that can wait, see
`Later`, workers compile when nothing else is left. They have been told of all of them then, and end when they are done,
if this process ends before.

Nothing depends on a worker. What is not in the cache when one has answered, or ended, is compiled here, and it gets no
other: there may be no folder to write to, another package of this name, or settings that it does not know. It does not
import modules of the user's, whose kernels are compiled here. It ends by itself when nobody writes to it any more.
"""

import collections
import itertools
import os
import pathlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import numba

from nbbp.kernels import jit, threads
from nbbp.kernels.cache import counts, is_ours
from nbbp.kernels.jit import Code

WORKER = "nbbp.kernels.worker"
MANY_PARTS = 5  # functions of its own, of one that takes a second to compile
FEWEST = 4  # missing functions for which a worker is started: it needs as long to start as to compile two
IDLE_SECONDS = 5.0  # until a worker without work ends
PATIENCE_SECONDS = 60.0  # until what a worker has not compiled is compiled here


class _Task:
    """A function to compile, and whether a worker has answered."""

    def __init__(self, code: Code) -> None:
        self.code, self.answered = code, False


class _Pool:
    """The workers of this process, and what none has taken yet."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: collections.deque[_Task] = collections.deque()
        self._later: collections.deque[_Task] = collections.deque()
        self._workers = self._busy = 0

    def offer(self, tasks: Sequence[_Task], workers: int, later: bool = False) -> None:
        """Let workers, at least so many, take these tasks, or take them later, when there are no others."""
        with self._changed:
            (self._later if later else self._waiting).extend(tasks)
            new = max(0, workers - self._workers)
            self._workers += new
            self._changed.notify_all()
        for _ in range(new):
            threading.Thread(target=self._serve, daemon=True).start()

    def take(self, task: _Task) -> bool:
        """Take the task from the workers; False if one has it."""
        with self._changed:
            if task not in self._waiting:
                return False
            self._waiting.remove(task)
            return True

    def wait(self, task: _Task) -> None:
        """Wait for the worker that has the task, unless it takes strangely long."""
        with self._changed:
            self._changed.wait_for(lambda: task.answered, PATIENCE_SECONDS)

    def are_done(self, tasks: Sequence[_Task]) -> bool:
        """Whether workers have answered, or there are none."""
        with self._changed:
            return not self._workers or all(task.answered for task in tasks)

    def finish(self) -> None:
        """Wait until workers have nothing left to do."""
        with self._changed:
            self._changed.wait_for(lambda: not self._workers or not (self._waiting or self._later or self._busy))

    def _serve(self) -> None:
        """Start a worker and give it tasks, one after the other, until one fails."""
        process = None
        try:
            process = _start()
            while (tasks := self._next()) and self._served(process, tasks):
                pass
        except OSError:
            pass  # it could not be started
        finally:
            with self._changed:
                self._workers -= 1
                self._changed.notify_all()
            if process is not None:
                process.kill()
                process.communicate()

    def _next(self) -> list[_Task]:
        """The last task that nobody has taken, or a share of those for later; none if there are none for some time."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._later, IDLE_SECONDS)
            share = -(-len(self._later) // self._workers)
            tasks = [self._waiting.pop()] if self._waiting else [self._later.popleft() for _ in range(share)]
            self._busy += len(tasks)
            return tasks

    def _served(self, process: subprocess.Popen, tasks: list[_Task]) -> bool:
        """Let a worker compile functions; whether all of them are in the cache now."""
        left = list(tasks)
        try:
            _send(process, [task.code for task in tasks])
            while left and _has_answered(process) and jit.is_available(left[0].code):
                counts["shared"] += 1
                self._answer([left.pop(0)])
            return not left
        except OSError:
            return False
        finally:
            self._answer(left)

    def _answer(self, tasks: list[_Task]) -> None:
        with self._changed:
            for task in tasks:
                task.answered = True
            self._busy -= len(tasks)
            self._changed.notify_all()


_pool = _Pool()


def _forget() -> None:
    """Of a parent's workers, a forked child has no threads that write to them."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _start() -> subprocess.Popen:
    """A worker, which finds modules where this process does; Ctrl-C in a terminal does not reach it."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if numba.config.CACHE_DIR:  # type: ignore[attr-defined]
        environment["NUMBA_CACHE_DIR"] = str(numba.config.CACHE_DIR)  # type: ignore[attr-defined]
    return subprocess.Popen(
        [sys.executable, "-m", WORKER], env=environment, start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _send(process: subprocess.Popen, codes: list[Code]) -> None:
    """Tell a worker what to compile."""
    assert process.stdin is not None
    for dispatcher, signature in codes:
        pickle.dump((dispatcher.py_func.__module__, dispatcher.py_func.__name__, signature), process.stdin)
    process.stdin.flush()


def _has_answered(process: subprocess.Popen) -> bool:
    """Wait for the worker's next answer; False if it has ended."""
    assert process.stdout is not None
    return bool(process.stdout.read(1))


def _most() -> int:
    """How many processes may compile beside this one: none if this program is not an interpreter, but has one."""
    interpreter = pathlib.Path(sys.executable or "").name.lower().startswith("python")
    return threads.count() - 1 if interpreter and not getattr(sys, "frozen", False) else 0


def missing(codes: Iterable[Code]) -> list[Code]:
    """What workers can compile of some functions: those of this package that are not in the cache."""
    return [code for code in codes if is_ours(code[0].py_func) and not jit.is_available(code)]


def _parts(function: Callable, found: set[Callable]) -> set[Callable]:
    """The compiled functions that a function calls, or that these call."""
    for name in function.__code__.co_names:
        part = getattr(function.__globals__.get(name), "py_func", None)
        if part is not None and part not in found:
            found.add(part)
            _parts(part, found)
    return found


def _arranged(codes: list[Code]) -> list[Code]:
    """The same functions, those with few parts in the middle."""
    parts = {code: len(_parts(code[0].py_func, set())) for code in codes}
    large = [code for code in codes if parts[code] >= MANY_PARTS]
    ends = list(itertools.accumulate(parts[code] for code in large))
    first = [code for code, end in zip(large, ends, strict=True) if end - parts[code] / 2 < ends[-1] / 2]
    return [*first, *(code for code in codes if code not in large), *large[len(first) :]]


class Later:
    """Functions that workers compile while this process does something else.

    Attributes
    ----------
    codes : list of Code
        Those of the given ones that are missing; none if there can be no worker.
    """

    def __init__(self, codes: Iterable[Code]) -> None:
        most = 0 if counts["lost"] else _most()
        self.codes = missing(codes) if most else []
        self._tasks = [_Task(code) for code in self.codes]
        if self._tasks:
            _pool.offer(self._tasks, min(most, max(1, len(self._tasks) // FEWEST)), later=True)

    @property
    def done(self) -> bool:
        """Whether they are in the cache, or never will be."""
        return _pool.are_done(self._tasks)


def finish() -> None:
    """Wait for all that workers compile."""
    _pool.finish()


class Divided:
    """Functions to compile, in the order in which the caller is to do so, while workers compile others.

    The caller compiles or loads each one that it is given.
    """

    def __init__(self, codes: Sequence[Code]) -> None:
        self._codes = codes

    def __len__(self) -> int:
        return len(self._codes)

    def __iter__(self) -> Iterator[Code]:
        absent = _arranged(missing(self._codes))
        workers = 0 if counts["lost"] else min(_most(), len(absent) // FEWEST)
        if not workers:
            yield from self._codes
            return
        tasks = [_Task(code) for code in absent]
        _pool.offer(tasks, workers)
        try:
            apart = set(absent)
            yield from (code for code in self._codes if code not in apart)
            given = []
            for task in tasks:
                if _pool.take(task):
                    yield task.code
                else:
                    given.append(task)
            for task in given:
                _pool.wait(task)
                yield task.code
        finally:
            for task in tasks:
                _pool.take(task)
