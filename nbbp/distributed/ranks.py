"""Ranks: the processes that train one model together, by MPI.

In compiled steps they swap arrays in pairs. Between steps all that they say to each other are Python values that each
gathers from all; an error takes the place of a value, so that no rank waits for one that has stopped.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nbbp.engine.program import Program
from nbbp.kernels import messages, threads
from nbbp.kernels.batches import accumulate
from nbbp.kernels.messages import MOST_BYTES, begin_swap, end_swap, swap

SIZES = "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"  # in the environment of what MPICH, its kin and Open MPI start
RANKS = "PMI_RANK", "OMPI_COMM_WORLD_RANK"
FAILED = "error"  # in place of a value
FEW_BYTES = 1 << 14  # below this, the number of messages matters more than their length
EARLY_BYTES = 1 << 22  # of a gradient that is sent while others are computed; shorter ones gain nothing


class RankError(RuntimeError):
    """Another rank has ended the work of all with an error, which the message contains."""


class Ranks:
    """The processes of an MPI communicator; without one, this process alone.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm, optional

    Attributes
    ----------
    rank, size : int
    communicator : mpi4py.MPI.Comm or None
        A copy, in which nobody else's messages are.
    """

    def __init__(self, communicator: Any = None) -> None:
        self.rank, self.size, self.communicator = 0, 1, communicator
        self._announced: BaseException | None = None  # an error that the others know of
        if communicator is None:
            return
        from mpi4py import MPI

        self.communicator = communicator.Dup()
        self.communicator.Set_errhandler(MPI.ERRORS_ARE_FATAL)
        self.rank, self.size = communicator.rank, communicator.size
        library = ctypes.CDLL(MPI.__file__)
        functions = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in messages.FUNCTIONS]
        self._words = functions, _handle(self.communicator), _handle(MPI.BYTE)
        self._threads = self._share_of_threads(MPI.COMM_TYPE_SHARED)

    def are_of(self, communicator: Any) -> bool:
        """Whether a communicator has the same processes in the same order."""
        from mpi4py import MPI

        return MPI.Comm.Compare(self.communicator, communicator) in (MPI.IDENT, MPI.CONGRUENT)

    @property
    def is_first(self) -> bool:
        """Whether this rank writes what only one is to write."""
        return self.rank == 0

    def _share_of_threads(self, shared: int) -> int:
        """The number of threads that leaves its cores to each rank of this machine."""
        mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {-1}
        machine = self.communicator.Split_type(shared)
        sharing = sum(bool(mine & theirs) for theirs in machine.allgather(mine))
        machine.Free()
        return max(1, threads.count() // sharing)

    def gather(self, what: str, value: Any) -> list[Any]:
        """The values of all ranks, in order; `what` names the value, of which all ranks have one.

        Raises
        ------
        RankError
            If another rank has failed.
        """
        if self.size == 1:
            return [value]
        found = self.communicator.allgather((what, value))
        for rank, (name, said) in enumerate(found):
            if name == FAILED:
                raise RankError(f"rank {rank} of {self.size} has stopped: {said}")
        for rank, (name, _) in enumerate(found):
            if name != what:
                raise RankError(f"rank {rank} of {self.size} is at its {name}, and rank {self.rank} at its {what}")
        return [value for _, value in found]

    def of_first(self, what: str, value: Any) -> Any:
        """The value of the first rank."""
        return self.gather(what, value if self.is_first else None)[0]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A context that all ranks leave together: an error of one ends it for all.

        On one machine the ranks share its cores.
        """
        if self.size == 1:
            yield
            return
        try:
            with threads.limited(self._threads):
                yield
                self.gather("end", None)
        except RankError:
            raise
        except BaseException as error:
            if error is not self._announced:
                self._announced = error
                self.communicator.allgather((FAILED, f"{type(error).__name__}: {error}"))
            raise

    def check_equal(self, values: Mapping[str, Any]) -> None:
        """ValueError if a value is not the same on all ranks."""
        first, *others = self.gather("settings", dict(values))
        for rank, theirs in enumerate(others, 1):
            for name in values:
                if theirs.get(name) != first.get(name):
                    raise ValueError(
                        f"all ranks train one model, and {name} is {first.get(name)} on rank 0 and {theirs.get(name)} "
                        f"on rank {rank}"
                    )

    def check_count(self, numbers: Sequence[int], shards: int | None) -> None:
        """ValueError unless each rank can have as many shards, of which there are one of some numbers, or as given."""
        fitting = [n for n in numbers if shards is None or n <= shards]
        if self.size not in fitting:
            parts = "a mini-batch" if shards is None else f"{shards} shards"
            raise ValueError(
                f"{self.size} ranks cannot have equal parts of {parts}: take a number of ranks among "
                f"{', '.join(map(str, fitting))}"
            )

    def part(self, things: Sequence[Any]) -> Any:
        """This rank's part of a sequence that is cut evenly."""
        share = len(things) // self.size
        return things[self.rank * share : (self.rank + 1) * share]

    def bind_sum_in_parts(
        self, array: np.ndarray
    ) -> tuple[Callable[[Program, slice], None], Callable[[Program], None]]:
        """Functions that bind the sum of an array (n,) over the ranks: of parts while a program goes on, and the rest.

        A long part that is ready is sent to the nearest rank at once, and added at the end.
        """
        under_way: list[tuple[slice, np.ndarray, np.ndarray]] = []

        def begin(program: Program, part: slice) -> None:
            mine = array[part]
            if EARLY_BYTES <= mine.nbytes <= MOST_BYTES:
                received, line = program.buffer(len(mine), dtype=array.dtype), self._line(self._partners()[0])
                program.call(begin_swap, received, mine, line)
                under_way.append((part, received, line))

        def end(program: Program) -> None:
            rest = 0
            for part, received, line in sorted(under_way, key=lambda one: one[0].start):
                self.bind_sum(program, array[rest : part.start])
                program.call(end_swap, line)
                program.call(accumulate, array[part], received)
                self.bind_sum(program, array[part], level=1)
                rest = part.stop
            self.bind_sum(program, array[rest:])

        return begin, end

    def bind_sum(self, program: Program, array: np.ndarray, level: int = 0) -> None:
        """Bind the sum of an array (n,) over the ranks, added as a balanced tree, from some level of it on.

        Of a long array each rank adds a part (recursive halving), and gets the others as they are.
        """
        halves, partners = array.nbytes >= FEW_BYTES, self._partners()[level:] if len(array) else []
        received = program.buffer(len(array), dtype=array.dtype) if partners else array[:0]
        mine, trail = array, []
        for partner in partners:
            kept, sent = mine, mine
            if halves:
                middle = len(mine) // 2
                kept, sent = mine[:middle], mine[middle:]
                if partner < self.rank:
                    kept, sent = sent, kept
            program.call(swap, received[: len(kept)], sent, self._line(partner))
            program.call(accumulate, kept, received[: len(kept)])
            trail.append((sent, kept, partner))
            mine = kept
        for theirs, kept, partner in reversed(trail) if halves else ():
            program.call(swap, theirs, kept, self._line(partner))

    def bind_join(self, program: Program, array: np.ndarray, edges: Sequence[int]) -> None:
        """Bind the exchange of the ranks' parts of an array, from each edge to the next along its first axis."""
        for level, partner in enumerate(self._partners()):
            width = 1 << level
            begins = [rank // width * width for rank in (self.rank, partner)]
            mine, theirs = (array[edges[b] : edges[b + width]].reshape(-1) for b in begins)
            program.call(swap, theirs, mine, self._line(partner))

    def _partners(self) -> list[int]:
        """The rank with which this one swaps arrays, level by level of the tree."""
        return [self.rank ^ 1 << level for level in range(self.size.bit_length() - 1)]

    def _line(self, partner: int) -> np.ndarray:
        return messages.line(*self._words, partner)


ALONE = Ranks()
_known: list[Ranks] = []


def ranks_of(communicator: Any) -> Ranks:
    """The ranks of a communicator, which all of its processes ask for; None stands for this process alone."""
    if communicator is None:
        return ALONE
    for ranks in _known:
        if ranks.are_of(communicator):
            return ranks
    _known.append(Ranks(communicator))
    return _known[-1]


def is_first() -> bool:
    """Whether this process was started alone, or as the first by `mpiexec`."""
    return not any(int(os.environ.get(name, 0)) for name in RANKS)


def launched() -> Ranks:
    """The ranks that `mpiexec` has started; this process alone if it was started without."""
    if not any(int(os.environ.get(name, 1)) > 1 for name in SIZES):
        return ALONE
    try:
        from mpi4py import MPI
    except ImportError:
        raise ImportError('mpi4py is missing, with which processes train together: pip install "nbbp[mpi]"') from None
    return ranks_of(MPI.COMM_WORLD)


def _handle(thing: Any) -> int:
    """The handle of a communicator or datatype as an integer, as MPI's functions take it."""
    from mpi4py import MPI

    kind = MPI.Comm if isinstance(thing, MPI.Comm) else MPI.Datatype
    return int.from_bytes(ctypes.string_at(MPI._addressof(thing), MPI._sizeof(kind)), sys.byteorder)
