"""Calls of kernels by the addresses of their machine code, with their arguments as a block of integers."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbbp.kernels.llvm import I32, I64

_WORDS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 128, 160)
"""The numbers of integers that a kernel may be called with; each has a call site, which takes as long to compile."""


@intrinsic
def call(typing_context, address, arguments, words):
    """Call the kernel at `address` with the `words` integers at `arguments`; returns its status, 0 for success.

    Numba passes an array as seven or more integers, so a kernel of arrays is a function of integers only, and one
    function serves all kernels: it passes as many integers as the next of _WORDS says, and a callee ignores the
    surplus. Blocks are padded for that.
    """

    def generate(context, builder, signature, args):
        address, arguments, words = args
        at = builder.inttoptr(arguments, I64.as_pointer())
        unused = cgutils.alloca_once(builder, I64, size=2)  # where Numba returns a value and an exception
        end = builder.append_basic_block("called")
        switch = builder.switch(words, end)
        incoming = [(builder.block, I32(0))]
        for case in _WORDS:
            with builder.goto_block(builder.append_basic_block(f"words_{case}")):
                switch.add_case(I64(case), builder.block)
                values = [builder.load(builder.gep(at, [I64(i)])) for i in range(case)]
                function = ir.FunctionType(I32, [I64.as_pointer()] * 2 + [I64] * len(values))
                result = builder.call(
                    builder.inttoptr(address, function.as_pointer()),
                    [unused, builder.gep(unused, [I64(1)]), *values],
                )
                incoming.append((builder.block, result))
                builder.branch(end)
        builder.position_at_end(end)
        returned = builder.phi(I32)
        for where, value in incoming:
            returned.add_incoming(value, where)
        return returned

    return types.int32(types.int64, types.int64, types.int64), generate


def padded_block(arrays) -> np.ndarray:
    """The arguments of a compiled kernel as integers: for each array the fields of Numba's array structure.

    meminfo and parent (both null), number of items, item size, address, shape, strides; then zeros to one of _WORDS.
    """
    words: list[int] = []
    for a in arrays:
        words += (0, 0, a.size, a.itemsize, a.__array_interface__["data"][0], *a.shape, *a.strides)
    if len(words) > _WORDS[-1]:
        raise ValueError(f"a kernel takes at most {_WORDS[-1]} words of arguments, got {len(words)}")
    padded = next(most for most in _WORDS if len(words) <= most)
    return np.array(words + [0] * (padded - len(words)), np.int64)


def address_places(arrays) -> list[int]:
    """The positions of the arrays' addresses in their block."""
    places, begin = [], 0
    for a in arrays:
        places.append(begin + 4)
        begin += 5 + 2 * a.ndim
    return places
