"""The papers that have a script, and the bits of its loss curves and weights."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Paper:
    """Authors, title and year; the networks' seeds, from 0; seconds on two cores; and the digest of its curves."""

    authors: str
    title: str
    year: int
    seeds: int
    seconds: int
    digest: str

    def __str__(self) -> str:
        return f"{self.authors}, {self.title}, {self.year}"


PAPERS = {
    "xor_1986": Paper(
        "Rumelhart, Hinton and Williams", "Learning internal representations by error propagation", 1986,
        seeds=100, seconds=15, digest="ac133601a35c11b8",
    ),
    "symmetry_1986": Paper(
        "Rumelhart, Hinton and Williams", "Learning representations by back-propagating errors", 1986,
        seeds=24, seconds=5, digest="4250d25fde73b5ea",
    ),
    "family_trees_1986": Paper(
        "Rumelhart, Hinton and Williams", "Learning representations by back-propagating errors", 1986,
        seeds=24, seconds=15, digest="ac2ffb14d0fd4e51",
    ),
    "zip_code_1989": Paper(
        "LeCun et al.", "Backpropagation applied to handwritten zip code recognition", 1989,
        seeds=4, seconds=95, digest="2c7fd1097e2a5584",
    ),
    "initialization_2010": Paper(
        "Glorot and Bengio", "Understanding the difficulty of training deep feedforward neural networks", 2010,
        seeds=3, seconds=30, digest="a29679c326a7b7b0",
    ),
    "momentum_2013": Paper(
        "Sutskever et al.", "On the importance of initialization and momentum in deep learning", 2013,
        seeds=1, seconds=20, digest="25f46cbd998c3a8c",
    ),
    "dropout_2014": Paper(
        "Srivastava et al.", "Dropout: a simple way to prevent neural networks from overfitting", 2014,
        seeds=2, seconds=55, digest="7faf4f0e5206762a",
    ),
    "batch_norm_2015": Paper(
        "Ioffe and Szegedy", "Batch normalization: accelerating deep network training", 2015,
        seeds=2, seconds=15, digest="f0535833084ebe1e",
    ),
    "residual_2015": Paper(
        "He et al.", "Deep residual learning for image recognition", 2015,
        seeds=1, seconds=20, digest="545e39ef51618f28",
    ),
    "calibration_2017": Paper(
        "Guo et al.", "On calibration of modern neural networks", 2017,
        seeds=4, seconds=8, digest="41c7b65ae3a1708d",
    ),
    "super_convergence_2018": Paper(
        "Smith and Topin", "Super-convergence: very fast training using large learning rates", 2018,
        seeds=2, seconds=15, digest="aea457460038b6a0",
    ),
}  # fmt: skip
