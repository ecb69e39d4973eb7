"""Forks: a child finds the compiler idle, every lock open, and runs on one thread if its parent had several.

A fork copies only the calling thread, but the locks in the state in which all threads left them. GNU OpenMP kills a
child that uses threads which its parent had started, so kernels run as their serial twins there, with the same bits.
"""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

import numba
from llvmlite.binding import ffi
from numba.core.compiler_lock import global_compiler_lock

_locks: "weakref.WeakSet[threading.Lock]" = weakref.WeakSet()
lost_threads = False  # this process was forked from one that had started Numba's threads


def lock() -> threading.Lock:
    """A lock that is open in a forked child, whichever thread held it."""
    opened = threading.Lock()
    _locks.add(opened)
    return opened


Value = TypeVar("Value")


class cached_property(Generic[Value]):
    """The property of `functools` without its lock, which a child inherits as it was, before Python 3.12."""

    def __init__(self, function: Callable[[Any], Value]) -> None:
        self._function, self.__doc__ = function, function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> Self | Value:
        if instance is None:  # of the class
            return self
        return vars(instance).setdefault(self._name, self._function(instance))


def _before() -> None:
    """Wait until no thread compiles or uses LLVM: the locks that it holds would never be released in the child."""
    global_compiler_lock.acquire()
    ffi.lib._lock.__enter__()


def _after() -> None:
    ffi.lib._lock.__exit__()
    global_compiler_lock.release()


def _after_in_child() -> None:
    global lost_threads
    _after()
    for held in _locks:
        held._at_fork_reinit()  # type: ignore[attr-defined]
    try:
        numba.threading_layer()
    except ValueError:  # not started: the child may start its own
        return
    lost_threads = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
