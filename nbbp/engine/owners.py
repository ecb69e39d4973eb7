"""Which core owns which parameters: it alone adds up their gradient, updates them, and multiplies with them.

A cache line that another core has written has to be fetched from there, and taken back before it is written again. So
each core has contiguous memory of its own. Of flat arrays it has a range. Of a large matrix of weights it has columns,
which lie scattered in the flat array; while a run is in compiled code they stand in a block of their own, and so do the
moments, and the flat arrays are filled when it returns.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np

from nbbp.engine.program import Call, Program, Shards
from nbbp.engine.runner import Runner
from nbbp.kernels import arrays, threads
from nbbp.kernels.batches import put_beside, take_from
from nbbp.kernels.gemm import affine, product_of_transposed, transpose
from nbbp.kernels.jit import Kernel
from nbbp.kernels.owned_gemm import affine_columns, product_with_columns

LEAST_BYTES = 4096  # of parameters in a range: less is not worth a thread
MOST_BYTES = 1 << 20  # of a matrix: more leaves the cores' caches, and takes long to be copied before and after a run


def ranges(size: int, itemsize: int) -> list[slice]:
    """The ranges of flat arrays of some size, one for each thread that there is; they begin on cache lines."""
    count = max(1, min(threads.count(), size * itemsize // LEAST_BYTES))
    return _cut(size, count, arrays.LINE // itemsize)


def _cut(size: int, count: int, unit: int) -> list[slice]:
    edges = [size * i // count // unit * unit for i in range(count)]
    return [slice(a, b) for a, b in itertools.pairwise([*edges, size])]


def common(a: slice, b: slice) -> slice:
    """The elements that lie in both ranges."""
    return slice(max(a.start, b.start), max(a.start, b.start, min(a.stop, b.stop)))


@dataclasses.dataclass(frozen=True)
class Block:
    """Some columns of a matrix of weights: its own copies of the parameters, the gradient and the moments."""

    columns: slice
    copies: tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A matrix of weights (inputs, outputs) that lies in the flat arrays, and stands in blocks during a run.

    Whoever owns a block owns the biases of its columns, whose gradients are computed with it; they stay where they are.
    """

    elements: slice
    bias: slice | None
    flat: tuple[np.ndarray, ...]
    blocks: tuple[Block, ...]
    transposed: np.ndarray | None


class Owners:
    """Matrices of weights whose columns are owned by cores, in programs that share the flat arrays.

    Parameters
    ----------
    programs : sequence of Program
        Steps of training, bound; their calls are replaced.
    flat : sequence of ndarray (size,)
        Parameters, gradient and moments.
    update : Kernel
        The update of parameters, called with ranges of all flat arrays and with coefficients.
    """

    def __init__(self, programs: Sequence[Program], flat: Sequence[np.ndarray], update: Kernel) -> None:
        self._flat, self._update = flat, update
        self.matrices = self._matrices(programs) if programs and threads.count() > 1 else []
        self.runners: list[Runner] = []  # into the blocks and out of them, not compiled before they are used
        if self.matrices:
            for program in programs:
                self._rewrite(program)
            self.runners = [self._copying(programs[0], out) for out in (False, True)]

    def _matrices(self, programs: Sequence[Program]) -> list[Matrix]:
        found = []
        calls = [call for call in (*programs[0].once, *programs[0].calls) if isinstance(call, Call)]
        for call in calls:
            if call.kernel is affine and threads.worthwhile(call.cycles()):
                elements, (x, w) = self._within(0, call.arrays[2]), call.arrays[1:3]
                if elements is None or not all(self._may_own(elements, program) for program in programs):
                    continue
                product = next((c for c in calls if self._touches(c, product_of_transposed, 0, 1, elements)), None)
                wide = w.shape[1] * w.itemsize >= 2 * arrays.LINE  # two owners at least
                if product is not None and wide and x.nbytes <= w.nbytes <= MOST_BYTES:  # else rows travel less
                    transposed = any(self._touches(c, transpose, 1, 0, elements) for c in calls)
                    found.append(self._matrix(elements, w, self._within(1, product.arrays[1]), transposed))
        return found

    def _touches(self, call: Call, kernel: Kernel, place: int, which: int, elements: slice) -> bool:
        """Whether a call of a kernel has these elements of a flat array at this place."""
        return call.kernel is kernel and self._within(which, call.arrays[place]) == elements

    def _within(self, which: int, array: np.ndarray) -> slice | None:
        """The elements of a flat array that another array shows, if it lies within."""
        flat = self._flat[which]
        begin = (array.ctypes.data - flat.ctypes.data) // flat.itemsize
        inside = array.dtype == flat.dtype and begin >= 0 and begin + array.size <= flat.size
        return slice(begin, begin + array.size) if inside and array.size else None

    def _may_own(self, elements: slice, program: Program) -> bool:
        """Whether all that touches these elements can go block by block."""
        for call in (*program.once, *program.calls):
            if not isinstance(call, Call):
                return False
            for place, array in enumerate(call.arrays):
                for which in range(len(self._flat)):
                    touched = self._within(which, array)
                    if touched is None or common(touched, elements).start == common(touched, elements).stop:
                        continue
                    known = touched == elements and (call.kernel, place, which) in (
                        (affine, 2, 0), (product_of_transposed, 0, 1), (transpose, 1, 0)
                    )  # fmt: skip
                    if not known and (call.kernel is not self._update or place != which):
                        return False
        return True

    def _matrix(self, elements: slice, w: np.ndarray, bias: slice | None, transposed: bool) -> Matrix:
        line = arrays.LINE // w.itemsize
        columns = _cut(w.shape[1], max(1, min(threads.count(), w.shape[1] // line)), line)  # of whole vectors
        blocks = [
            Block(own, tuple(arrays.zeros((len(w), own.stop - own.start), w.dtype) for _ in self._flat))
            for own in columns
        ]
        flat = tuple(array[elements].reshape(w.shape) for array in self._flat)
        copy = arrays.zeros(w.shape[::-1], w.dtype) if transposed else None
        return Matrix(elements, bias, flat, tuple(blocks), copy)

    def enter(self) -> None:
        """Before a run: what the user may have written goes into the blocks."""
        for runner in self.runners[:1]:
            _run(runner)

    def leave(self) -> None:
        """After a run: what the user may read comes out of the blocks."""
        for runner in self.runners[1:]:
            _run(runner)

    def _copying(self, program: Program, out: bool) -> Runner:
        """Copies of the flat arrays into the blocks, or out of them, each by the owner; gradients only come out."""
        own = Program(program.backend, program.dtype, program.rows, training=False)
        parts = [own.part(slice(0, program.rows)) for _ in range(threads.count())]
        for matrix in self.matrices:
            for part, block in zip(parts, matrix.blocks, strict=False):
                first = np.array([block.columns.start])
                for k, (copy, whole) in enumerate(zip(block.copies, matrix.flat, strict=True)):
                    if out:
                        part.call(put_beside, whole, copy, first)
                    elif k != 1:
                        part.call(take_from, copy, whole, first)
                if matrix.transposed is not None and not out:
                    part.call(transpose, matrix.transposed[block.columns], block.copies[0])
        own.call_shards([part for part in parts if part.calls], awake=True)
        return Runner(own, later=True)

    def _rewrite(self, program: Program) -> None:
        """Replace the calls of a program that touch owned matrices."""
        replaced: dict[int, np.ndarray] = {}
        once, program.once[:] = list(program.once), []
        for call in once:
            matrix = self._owned(0, call.arrays[1]) if call.kernel is transpose else None
            if matrix is not None and matrix.transposed is not None:
                replaced[call.arrays[0].ctypes.data] = matrix.transposed
            else:
                program.once.append(call)
        calls, program.calls = program.calls, []
        for bound in calls:
            call = cast(Call, bound)  # else nothing is owned
            if call.kernel is affine and (matrix := self._owned(0, call.arrays[2])):
                y, x, _, b = call.arrays
                self._side_by_side(
                    program, affine_columns, [(y, x, block.copies[0], b, block) for block in matrix.blocks]
                )
            elif call.kernel is product_of_transposed and (matrix := self._owned(1, call.arrays[0])):
                _, sums, x, dy = call.arrays
                self._side_by_side(
                    program, product_with_columns, [(block.copies[1], sums, x, dy, block) for block in matrix.blocks]
                )
            elif call.kernel is self._update:
                self._share_update(program, call)
            else:
                call.arrays = tuple(replaced.get(array.ctypes.data, array) for array in call.arrays)
                program.calls.append(call)

    def _owned(self, which: int, array: np.ndarray) -> Matrix | None:
        elements = self._within(which, array)
        return next((matrix for matrix in self.matrices if matrix.elements == elements), None)

    @staticmethod
    def _side_by_side(program: Program, kernel: Kernel, arguments: list[tuple]) -> None:
        programs = []
        for *given, block in arguments:
            part = program.part(slice(0, program.rows))
            part.call(kernel, *given, np.array([block.columns.start]))
            programs.append(part)
        program.call_shards(programs, awake=True)

    def _share_update(self, program: Program, call: Call) -> None:
        """Each core updates its blocks and transposes them, and a share of the other parameters."""
        *_, coefficients = call.arrays
        whole = self._within(0, call.arrays[0])
        assert whole is not None
        programs, owned = [program.part(slice(0, program.rows)) for _ in range(threads.count())], []
        for matrix in self.matrices:
            here = common(matrix.elements, whole)
            if here.start == here.stop:
                continue
            owned.append(here)
            if matrix.elements.stop > whole.stop:
                continue  # `Update.bind` splits a group at its first cache line: the call of the rest updates it all
            for part, block in zip(programs, matrix.blocks, strict=False):
                part.call(self._update, *(copy.reshape(-1) for copy in block.copies), coefficients)
                if matrix.transposed is not None:
                    part.call(transpose, matrix.transposed[block.columns], block.copies[0])
            if matrix.bias is not None and _lies_in(matrix.bias, whole):
                owned.append(matrix.bias)
                for part, block in zip(programs, matrix.blocks, strict=False):
                    own = slice(matrix.bias.start + block.columns.start, matrix.bias.start + block.columns.stop)
                    part.call(self._update, *(array[own] for array in self._flat), coefficients)
        for rest in _between(owned, whole):
            for part, own in zip(programs, ranges(rest.stop - rest.start, self._flat[0].itemsize), strict=False):
                elements = slice(rest.start + own.start, rest.start + own.stop)
                part.call(self._update, *(array[elements] for array in self._flat), coefficients)
        if all(_lies_in(m.elements, whole) and (m.bias is None or _lies_in(m.bias, whole)) for m in self.matrices):
            self._after_products(program, programs)
        if parts := [part for part in programs if part.calls]:
            program.call_shards(parts, awake=True)

    @staticmethod
    def _after_products(program: Program, updates: list[Program]) -> None:
        """Let each core update a block straight after it has computed the gradient: the loss is recorded before."""
        *_, products, record = (None, None, *program.calls)
        if not isinstance(products, Shards) or not isinstance(record, Call) or len(products.programs) != len(updates):
            return
        if all(cast(Call, product.calls[0]).kernel is product_with_columns for product in products.programs):
            program.calls[-2:] = [record]
            for update, product in zip(updates, products.programs, strict=True):
                update.calls[:0] = product.calls


def _run(runner: Runner) -> None:
    runner.clock.set(end=1, batches=2)
    runner.run()


def _lies_in(elements: slice, whole: slice) -> bool:
    return common(elements, whole) == elements


def _between(owned: list[slice], whole: slice) -> Iterator[slice]:
    """The ranges of the whole that are not owned."""
    begin = whole.start
    for elements in sorted(owned, key=lambda elements: elements.start):
        if begin < elements.start:
            yield slice(begin, elements.start)
        begin = elements.stop
    if begin < whole.stop:
        yield slice(begin, whole.stop)
