"""Messages between processes: MPI's functions, called from kernels by their addresses."""

import ctypes

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbbp.kernels.jit import kernel

WORDS = 16  # of a line: the address of MPI_Sendrecv, communicator, datatype of a byte, partner, then MPI's status
_STATUS = 4
MOST_BYTES = 1 << 30  # of a message: MPI counts in 32 bits


@intrinsic
def _send_and_receive(typing_context, line, sent, sent_bytes, received, received_bytes):
    """MPI_Sendrecv with the partner of a line (WORDS,), between addresses; handles are integers or pointers."""

    def generate(context, builder, signature, args):
        word, integer = ir.IntType(64), ir.IntType(32)
        start = context.make_array(line)(context, builder, args[0]).data
        function, communicator, byte, partner = (
            builder.load(builder.gep(start, [word(k)])) for k in range(_STATUS)
        )  # fmt: skip
        status = builder.ptrtoint(builder.gep(start, [word(_STATUS)]), word)
        rank, tag = builder.trunc(partner, integer), integer(0)
        ends = []
        for address, size in ((args[1], args[2]), (args[3], args[4])):
            ends += [address, builder.trunc(size, integer), byte, rank, tag]
        arguments = [*ends, communicator, status]
        kind = ir.FunctionType(integer, [argument.type for argument in arguments])
        return builder.call(builder.inttoptr(function, kind.as_pointer()), arguments)

    return types.int32(line, *[types.int64] * 4), generate


def swap_reference(theirs, mine, line):
    if line[0] == 0:
        theirs[: len(mine)] = mine[: len(theirs)]
        return
    word, integer = ctypes.c_int64, ctypes.c_int32
    end = [word, integer, word, integer, integer]
    function = ctypes.CFUNCTYPE(integer, *end, *end, word, word)(int(line[0]))
    _, communicator, byte, partner = (int(value) for value in line[:_STATUS])
    sent, received = (a.view(np.uint8) for a in (mine, theirs))
    for begin in range(0, max(sent.size, received.size, 1), MOST_BYTES):
        ends = []
        for array in (sent[begin : begin + MOST_BYTES], received[begin : begin + MOST_BYTES]):
            ends += [array.ctypes.data, array.nbytes, byte, partner, 0]
        function(*ends, communicator, line.ctypes.data + 8 * _STATUS)


def _no_partner(rng, shape, dtype, lengths) -> np.ndarray:
    return np.zeros(shape, np.int64)


@kernel(swap_reference, "(m) (n) (16)", cycles=0, values={"line": _no_partner})
def swap(theirs, mine, line):
    """Send `mine` to the partner of a line and receive `theirs`; without a partner the sender itself is the partner."""
    if line[0] == 0:
        for i in range(min(theirs.shape[0], mine.shape[0])):
            theirs[i] = mine[i]
        return
    sent, received = mine.shape[0] * mine.itemsize, theirs.shape[0] * theirs.itemsize
    for begin in range(0, max(sent, received, 1), MOST_BYTES):
        _send_and_receive(
            line,
            mine.ctypes.data + begin,
            min(max(sent - begin, 0), MOST_BYTES),
            theirs.ctypes.data + begin,
            min(max(received - begin, 0), MOST_BYTES),
        )
