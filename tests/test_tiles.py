"""The machine code of register tiles for processors that this machine need not have."""

import re

import pytest
from llvmlite import binding, ir

from nbbp.kernels import tiles

NEON = {"VECTOR_BYTES": 16, "FMA": "fma", "ARM": True}


def machine_code(processor: str, number: ir.Type, rows: int, offsets: str) -> list[str]:
    """The instructions of a tile for an Arm processor, and the labels between them."""
    module = ir.Module()
    module.triple = "aarch64-unknown-linux-gnu"
    tiles._tile_function(module, number, rows, tiles.VECTORS, offsets, pairs=False).linkage = "external"
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(module.triple).create_target_machine(cpu=processor, opt=3)
    compiled = binding.parse_assembly(str(module))
    builder = binding.create_pass_builder(target, binding.create_pipeline_tuning_options(3))
    builder.getModulePassManager().run(compiled, builder)
    lines = (line.strip() for line in target.emit_assembly(compiled).splitlines())
    return [line for line in lines if re.match(r"[a-z]|\.LBB\w+:", line)]


def loops(lines: list[str]) -> list[list[str]]:
    """The instructions from a label to a branch that goes back to it, without another label between them."""
    found, begin = [], 0
    for i, line in enumerate(lines):
        if line.startswith("."):
            begin = i
        elif re.fullmatch(rf"b\S*\s+{re.escape(lines[begin].rstrip(':'))}", line):
            found.append(lines[begin + 1 : i + 1])
    return found


@pytest.mark.parametrize("processor", ["apple-m1", "neoverse-n1", "neoverse-v1"])
@pytest.mark.parametrize("offsets", ["", "ac", "abc"])  # of matrices, of windows, of windows in planes
def test_the_sums_of_a_tile_stay_in_registers_of_neon(processor, offsets, monkeypatch):
    for name, value in NEON.items():
        monkeypatch.setattr(tiles, name, value)
    for number in (ir.FloatType(), ir.DoubleType()):
        for rows in (8, 6, 4, 2):
            inner = loops(machine_code(processor, number, rows, offsets))
            multiplied = [[line for line in loop if line.startswith("fmla")] for loop in inner]
            whole = [k for k, found in enumerate(multiplied) if len(found) == rows * tiles.VECTORS]
            assert whole, (number, rows)
            for k in whole:
                assert not [line for line in inner[k] if re.search(r"\bsp\b", line)]
                assert all(re.search(r"\.[sd]\[0\]$", line) for line in multiplied[k])  # no copies to all lanes


def test_tiles_that_need_more_registers_than_there_are_would_be_noticed(monkeypatch):
    for name, value in NEON.items():
        monkeypatch.setattr(tiles, name, value)
    inner = loops(machine_code("apple-m1", ir.FloatType(), 12, ""))
    assert any("[sp" in line for loop in inner for line in loop)
