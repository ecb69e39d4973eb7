"""Loops that run bound programs step after step without Python."""

import copy
import math
from collections.abc import Iterable, Iterator
from typing import cast

import numba
import numpy as np
from numba import prange, types

from nbbp.engine.program import Call, Program
from nbbp.kernels import threads
from nbbp.kernels.calls import address_places, call, padded_block
from nbbp.kernels.clock import Clock
from nbbp.kernels.jit import Code, address, compiled, device, machine_code
from nbbp.kernels.pointers import write_word
from nbbp.kernels.workers import Divided, Later, missing


def _run_steps(calls, rows, last_calls, last_rows, clock):
    """Run until the clock's end or stop; returns 0, or the number of the call that failed, counted from 1.

    Every epoch has clock.batches steps, the last of which runs `last_calls` on `last_rows` rows.
    """
    while clock[0].step < clock[0].end and not clock[0].stop:
        is_last = clock[0].batch == clock[0].batches - 1
        due = last_calls if is_last else calls
        for k in range(len(due)):
            if call(due[k, 0], due[k, 1], due[k, 2]) != 0:
                return k + 1
            if clock[0].stop:
                return 0
        clock[0].row += last_rows if is_last else rows
        clock[0].batch = 0 if is_last else clock[0].batch + 1
        clock[0].step += 1
    return 0


def _run_once(calls):
    """Run the calls; returns 0, or the number of the one that failed, counted from 1."""
    for k in range(len(calls)):
        if call(calls[k, 0], calls[k, 1], calls[k, 2]) != 0:
            return k + 1
    return 0


_steps = device(_run_steps)


def _run_side_by_side(codes, sizes, clocks):
    """Run the steps of several programs, each on one thread: codes (programs, 2, calls, 3), sizes (programs, 2)."""
    for m in prange(codes.shape[0]):
        _steps(codes[m, 0], sizes[m, 0], codes[m, 1], sizes[m, 1], clocks[m, :1])


def _run_blocks(codes, words, begins, bases):
    """Run the calls (programs, calls, 3) of each program for each of its blocks of rows, begins (programs, blocks).

    Before each, words (programs, words, 4), an address, the number of an array, a row's bytes and an offset in bytes,
    are set to the offset from where the block begins in the arrays at bases (arrays,).
    """
    for m in prange(codes.shape[0]):
        for block in range(begins.shape[1]):
            for k in range(words.shape[1]):
                begin = bases[words[m, k, 1]] + begins[m, block] * words[m, k, 2]
                write_word(words[m, k, 0], begin + words[m, k, 3])
            for k in range(codes.shape[1]):
                call(codes[m, k, 0], codes[m, k, 1], codes[m, k, 2])


_run_steps_compiled = compiled(_run_steps, "run_steps")
_run_once_compiled = compiled(_run_once, "run_once")
_CODES = types.int64[:, ::1]
_RUN_STEPS = _run_steps_compiled, (_CODES, types.int64, _CODES, types.int64, numba.typeof(Clock().record))
_RUN_ONCE = _run_once_compiled, (_CODES,)
_run_side_by_side_serial = compiled(_run_side_by_side, "run_side_by_side_serial")
_run_side_by_side_parallel = compiled(_run_side_by_side, "run_side_by_side_parallel", parallel=True)

_run_blocks_serial = compiled(_run_blocks, "run_blocks_serial")
_run_blocks_parallel = compiled(_run_blocks, "run_blocks_parallel", parallel=True)


class Runner:
    """Runs a program step after step; `last`, in a fit, is that of an epoch's last mini-batch, or the same one.

    A program's `once` runs before the calls of each step in training, otherwise before a run. With `alone`, everything
    runs on the calling thread, as it also does if threads are lost, as in a forked child. Everything is compiled at
    once, together with what `others` run, which were made for `later` if the cache does not have it: the more there is,
    the better it is divided among processes. It also runs on the calling thread until workers have compiled what shares
    work among threads, which takes longer to compile and has the same bits.
    """

    def __init__(
        self, program: Program, last: Program | None = None, progress=iter, alone: bool = False, later: bool = False,
        others: "Iterable[Runner]" = (),
    ) -> None:  # fmt: skip
        self.program, self.last, self.clock = program, last or program, program.clock
        self._loops = [_RUN_STEPS, _RUN_ONCE] if last else []  # a fit draws the order of its rows by the second
        self._alone, self._once_alone = alone, alone or program.cycles() < threads.WAKING_CYCLES
        self._codes: dict[bool, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self._threads = threads.count()
        self._later: Later | None = None
        if program.backend == "numba" and not (later and missing(self._needed(self._alone or threads.alone()))):
            self._compile([self, *others], progress)

    @staticmethod
    def _compile(runners: "list[Runner]", progress) -> None:
        """Compile what they run, first of all what runs on the calling thread if something is missing for others."""
        alone = [runner._alone or threads.alone() for runner in runners]
        first = {code: None for runner in runners for code in runner._needed(alone=True)}
        whole = {code: None for runner, one in zip(runners, alone, strict=True) for code in runner._needed(one)}
        later = Later(code for code in whole if code not in first)
        for code in later.codes:
            del whole[code]
        for function, signature in progress(Divided(list(first | whole if later.codes else whole))):
            machine_code(function, signature)
        for runner, one in zip(runners, alone, strict=True):
            runner._later = later if later.codes and not one else None
            runner.code(one or runner._later is not None)

    def _needed(self, alone: bool) -> list[Code]:
        return [*self.program.codes(not alone), *self.last.codes(not alone), *self._loops]

    def _is_alone(self) -> bool:
        """Whether everything runs on the calling thread."""
        if self._alone or threads.alone():
            return True
        if self._later is not None:
            if not self._later.done:
                return True
            with threads.limited(self._threads):  # a fit may be trying others now
                self.code(alone=False)
            self._later = None
        return False

    def code(self, alone: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The machine code for one thread or for all: of both programs, and of the calls before a run.

        It is compiled or loaded if it is not available yet.
        """
        bound = self._codes.get(alone)
        if bound is None:
            parallel = not alone
            for function, signature in Divided(list(dict.fromkeys(self._needed(alone)))):
                machine_code(function, signature)
            code, before = self._compiled(self.program, parallel)
            last = code if self.last is self.program else self._compiled(self.last, parallel)[0]
            bound = self._codes[alone] = code, last, before
        return bound

    @staticmethod
    def _compiled(program: Program, parallel: bool) -> tuple[np.ndarray, np.ndarray]:
        once, code = program.compile(parallel, once=True), program.compile(parallel)
        return (np.concatenate([once, code]), once[:0]) if program.training else (code, once)

    def run(self) -> None:
        """Run until the clock's end or stop, without the GIL."""
        if self.program.backend == "numpy":
            self._run_references()
            return
        alone = self._is_alone()
        code, last, before = self.code(alone)
        with threads.guard(alone):
            if len(before):
                _run_once_compiled(before)
            failed = _run_steps_compiled(code, self.program.rows, last, self.last.rows, self.clock.record)
        if failed:
            raise RuntimeError(f"call {failed} of a step failed: {self._due().calls}")

    def _due(self) -> Program:
        """The program of the clock's current mini-batch."""
        return self.last if self.clock.batch == self.clock.batches - 1 else self.program

    def once(self) -> None:
        """Run the program's calls once, whatever the clock says."""
        if self.program.backend == "numpy":
            with np.errstate(all="ignore"):
                self.program.run_references(once=True)
                self.program.run_references()
            return
        alone = self._once_alone or self._is_alone()
        code, _, before = self._codes.get(alone) or self.code(alone)
        with threads.guard(alone):
            if len(before):
                _run_once_compiled(before)
            failed = _run_once_compiled(code)
        if failed:
            raise RuntimeError(f"call {failed} failed: {self.program.calls}")

    def _run_references(self) -> None:
        clock, training = self.clock, self.program.training
        with np.errstate(all="ignore"):  # as in compiled code, whose loss shows such values
            if not training:
                self.program.run_references(once=True)
            while clock.step < clock.end and not clock.stop:
                program = self._due()
                if training:
                    program.run_references(once=True)
                program.run_references()
                if clock.stop:
                    return
                clock.row += program.rows
                clock.batch = (clock.batch + 1) % clock.batches
                clock.step += 1


class SideBySide:
    """Runs the programs of several runners at once, each on one thread, until their clocks stop them.

    Parameters
    ----------
    runners : list of Runner
    clocks : ndarray (runners, 2)
        The records of their clocks, see `nbbp.kernels.clock.side_by_side`.
    """

    def __init__(self, runners: "list[Runner]", clocks: np.ndarray) -> None:
        self._runners, self._clocks = runners, clocks
        if runners[0].program.backend == "numba":
            codes = [runner.code(alone=True)[:2] for runner in runners]
            self._codes = np.zeros((len(codes), 2, max(len(code) for pair in codes for code in pair), 3), np.int64)
            for m, pair in enumerate(codes):
                for k, code in enumerate(pair):
                    self._codes[m, k, : len(code)] = code  # a call without words, at the end, does nothing
            self._sizes = np.array([[runner.program.rows, runner.last.rows] for runner in runners])

    def run(self) -> None:
        """Run each until its clock's end or stop, without the GIL."""
        if self._runners[0].program.backend == "numpy":
            for runner in self._runners:
                runner.run()
            return
        alone = threads.alone()
        run = _run_side_by_side_serial if alone else _run_side_by_side_parallel
        with threads.guard(alone):
            run(self._codes, self._sizes, self._clocks)


class Blocks:
    """Runs programs of some rows again and again over arrays of many, whose rows take the places of their buffers.

    Parameters
    ----------
    programs : list of Program
        The same calls on buffers of their own, one program for each thread; threads share the calls if there is one.
    buffers : list of list of ndarray (rows, ...)
        For each program its buffers that arrays replace.
    """

    def __init__(self, programs: list[Program], buffers: list[list[np.ndarray]]) -> None:
        self._programs, self._rows = programs, programs[0].rows
        found = []
        for program, own in zip(programs, buffers, strict=True):
            found.append([word for bound in program.calls for word in _words(cast(Call, bound), own)])
        self._words = np.array(found, np.int64).reshape(len(programs), -1, 4)
        self._bases = np.zeros(len(buffers[0]), np.int64)
        self._begins = np.zeros((len(programs), 1), np.int64)
        self._bound: dict[bool, tuple[np.ndarray, tuple]] = {}

    def over(self, edges: np.ndarray) -> "Blocks":
        """The same blocks over rows from one edge (programs + 1,) to the next for each program.

        There lie as many rows as the program has, or more; the last block of a program may overlap with the one before.
        """
        most = math.ceil(np.diff(edges).max() / self._rows)
        cut = copy.copy(self)
        cut._bound = {}
        cut._begins = np.minimum(edges[:-1, None] + self._rows * np.arange(most), edges[1:, None] - self._rows)
        return cut

    def run(self, arrays: list[np.ndarray]) -> None:
        """Run over all rows of the arrays, which are given in the order of the buffers."""
        alone = threads.alone()
        code, _ = self._bound.get(alone) or self._bind(alone)
        for number, array in enumerate(arrays):
            self._bases[number] = array.__array_interface__["data"][0]
        with threads.guard(alone):
            _run_once_compiled(code)

    def _bind(self, alone: bool) -> tuple[np.ndarray, tuple]:
        """Code that runs once what the programs have in common, then the blocks; and the arrays that it refers to."""
        one = len(self._programs) == 1
        codes = np.stack([program.compile(parallel=one and not alone) for program in self._programs])
        arguments = [codes, self._words, self._begins, self._bases]
        block = padded_block(arguments)
        run = address(_run_blocks_serial if alone or one else _run_blocks_parallel, arguments)
        once = self._programs[0].compile(parallel=one and not alone, once=True)
        code = np.concatenate([once, [[run, block.ctypes.data, len(block)]]])
        self._bound[alone] = code, (*arguments, block)
        return self._bound[alone]


def _words(bound: Call, buffers: list[np.ndarray]) -> Iterator[tuple[int, int, int, int]]:
    """For each argument of a call that lies in a buffer, as `_run_blocks` takes it: where the call has its address."""
    for array, place in zip(bound.arrays, address_places(bound.arrays), strict=True):
        for number, buffer in enumerate(buffers):
            offset = array.ctypes.data - buffer.ctypes.data
            if 0 <= offset < buffer.nbytes:
                yield bound.block.ctypes.data + place * bound.block.itemsize, number, buffer[0].nbytes, offset
