"""Messages between processes: MPI's functions, called from kernels by their addresses."""

import ctypes
from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbbp.kernels.jit import kernel

FUNCTIONS = "MPI_Sendrecv", "MPI_Isend", "MPI_Irecv", "MPI_Wait"
SEND_AND_RECEIVE, SEND, RECEIVE, WAIT, COMMUNICATOR, BYTE, PARTNER, SENT, RECEIVED, STATUS = range(10)
WORDS = 16  # of a line: addresses of functions, two handles, the partner's rank, two requests, and MPI's status
MOST_BYTES = 1 << 30  # of a message: MPI counts in 32 bits
UNDER_WAY = 1  # tag of messages that are waited for later


def line(functions: Sequence[int], communicator: int, byte: int, partner: int) -> np.ndarray:
    """What a kernel has to know of MPI to swap arrays with a partner (WORDS,); a swap under way needs one alone."""
    words = [*functions, communicator, byte, partner]
    return np.array(words + [0] * (WORDS - len(words)), np.int64)


def _function(number: int, kinds: str):
    """A function of a line, compiled and in Python, with integers of 32 bits (i) or words of 64 (w).

    MPI's handles are integers or pointers; as words both are passed alike.
    """

    @intrinsic
    def compiled(typing_context, line, arguments):
        def generate(context, builder, signature, args):
            start = context.make_array(line)(context, builder, args[0]).data
            address = builder.load(builder.gep(start, [ir.IntType(64)(number)]))
            values = [builder.extract_value(args[1], k) for k in range(len(kinds))]
            given = [builder.trunc(v, ir.IntType(32)) if k == "i" else v for v, k in zip(values, kinds, strict=True)]
            kind = ir.FunctionType(ir.IntType(32), [value.type for value in given])
            return builder.call(builder.inttoptr(address, kind.as_pointer()), given)

        return types.int32(line, types.UniTuple(types.int64, len(kinds))), generate

    def in_python(line, arguments) -> int:
        own = (ctypes.c_int32 if kind == "i" else ctypes.c_int64 for kind in kinds)
        return ctypes.CFUNCTYPE(ctypes.c_int32, *own)(int(line[number]))(*map(int, arguments))

    return compiled, in_python


_ONE_WAY = "wiwii"  # buffer, count, datatype, rank, tag
_send_and_receive, _send_and_receive_here = _function(SEND_AND_RECEIVE, 2 * _ONE_WAY + "ww")
_send, _send_here = _function(SEND, _ONE_WAY + "ww")
_receive, _receive_here = _function(RECEIVE, _ONE_WAY + "ww")
_wait, _wait_here = _function(WAIT, "ww")


def _no_partner(rng, shape, dtype, lengths) -> np.ndarray:
    return np.zeros(shape, np.int64)


def swap_reference(theirs, mine, line):
    if line[SEND_AND_RECEIVE] == 0:
        theirs[: len(mine)] = mine[: len(theirs)]
        return
    sent, received, words = mine.view(np.uint8), theirs.view(np.uint8), line.ctypes.data
    for begin in range(0, max(sent.size, received.size, 1), MOST_BYTES):
        ends = []
        for array in (sent[begin : begin + MOST_BYTES], received[begin : begin + MOST_BYTES]):
            ends += [array.ctypes.data, array.nbytes, line[BYTE], line[PARTNER], 0]
        _send_and_receive_here(line, [*ends, line[COMMUNICATOR], words + 8 * STATUS])


@kernel(swap_reference, "(m) (n) (16)", cycles=0, values={"line": _no_partner})
def swap(theirs, mine, line):
    """Send `mine` to the partner of a line and receive `theirs`; without a partner the sender itself is the partner."""
    if line[SEND_AND_RECEIVE] == 0:
        for i in range(min(theirs.shape[0], mine.shape[0])):
            theirs[i] = mine[i]
        return
    sent, received, words = mine.shape[0] * mine.itemsize, theirs.shape[0] * theirs.itemsize, line.ctypes.data
    byte, partner = line[BYTE], line[PARTNER]
    for begin in range(0, max(sent, received, 1), MOST_BYTES):
        one = min(max(sent - begin, 0), MOST_BYTES)
        other = min(max(received - begin, 0), MOST_BYTES)
        a, b = mine.ctypes.data + begin, theirs.ctypes.data + begin
        ends = (a, one, byte, partner, 0, b, other, byte, partner, 0, line[COMMUNICATOR], words + 8 * STATUS)
        _send_and_receive(line, ends)


def begin_swap_reference(theirs, mine, line):
    if line[SEND_AND_RECEIVE] == 0:
        theirs[:] = mine
        return
    to, words = [line[BYTE], line[PARTNER], UNDER_WAY, line[COMMUNICATOR]], line.ctypes.data
    _receive_here(line, [theirs.ctypes.data, theirs.nbytes, *to, words + 8 * RECEIVED])
    _send_here(line, [mine.ctypes.data, mine.nbytes, *to, words + 8 * SENT])


@kernel(begin_swap_reference, "(n) (n) (16)", cycles=0, values={"line": _no_partner})
def begin_swap(theirs, mine, line):
    """Begin to swap arrays of up to MOST_BYTES with the partner of a line; neither may be used until `end_swap`."""
    if line[SEND_AND_RECEIVE] == 0:
        for i in range(mine.shape[0]):
            theirs[i] = mine[i]
        return
    size, byte, partner, communicator = mine.shape[0] * mine.itemsize, line[BYTE], line[PARTNER], line[COMMUNICATOR]
    a, b, words = mine.ctypes.data, theirs.ctypes.data, line.ctypes.data
    _receive(line, (b, size, byte, partner, UNDER_WAY, communicator, words + 8 * RECEIVED))
    _send(line, (a, size, byte, partner, UNDER_WAY, communicator, words + 8 * SENT))


def end_swap_reference(line):
    if line[SEND_AND_RECEIVE] != 0:
        words = line.ctypes.data
        _wait_here(line, [words + 8 * RECEIVED, words + 8 * STATUS])
        _wait_here(line, [words + 8 * SENT, words + 8 * STATUS])


@kernel(end_swap_reference, "(16)", cycles=0, values={"line": _no_partner})
def end_swap(line):
    """Wait until a swap has ended."""
    if line[SEND_AND_RECEIVE] != 0:
        words = line.ctypes.data
        _wait(line, (words + 8 * RECEIVED, words + 8 * STATUS))
        _wait(line, (words + 8 * SENT, words + 8 * STATUS))
