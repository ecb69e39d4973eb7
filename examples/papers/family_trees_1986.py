"""A network that learns two family trees, and answers questions about them that it was never asked.

Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", Nature 323, 1986, figures 2 to 4:
an English and an Italian family have the same tree of twelve, of which 104 facts are true, such as "Colin has aunts:
Jennifer and Margaret". The network sees a person and a relation, one unit of 24 and one of 12, and turns on those of 24
units that are the answer. What it knows of a person goes through six units. Nobody tells these of nationalities,
generations or branches, but a network that finds them can answer what is not among the 100 facts that it learns.

The paper's learning: the gradient of all facts, added up; rate 0.005 and momentum 0.5 in the first 20 sweeps, then 0.01
and 0.9 up to 1,500; after each sweep 0.2 % less of every weight; no error of outputs above 0.8 that should be on, and
below 0.2 that should be off. It does not say how weights begin, nor what is the error of other outputs: here, their
distance from 1 or 0. Weights between -0.3 and 0.3, as in its other network, stay where each output is the same for all
questions. What learns is eight times the rates, weights between -3 and 3, and 3,000 sweeps.

Two networks of 1986 are said to have answered four and three of the four other questions. Here each of 24 has others.
"""

import dataclasses

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import nbbp
from nbbp.kernels.scalars import constant
from nbbp.kernels.vector_math import HALF, ZERO
from nbbp.papers import Claim, Outcome, main

ENGLISH = [
    *("Christopher", "Andrew", "Arthur", "James", "Charles", "Colin"),
    *("Penelope", "Christine", "Victoria", "Jennifer", "Margaret", "Charlotte"),
]
ITALIAN = [
    *("Roberto", "Pierro", "Emilio", "Marco", "Tomaso", "Alfonso"),
    *("Maria", "Francesca", "Lucia", "Angela", "Gina", "Sophia"),
]
RELATIONS = [
    *("father", "mother", "husband", "wife", "son", "daughter"),
    *("uncle", "aunt", "brother", "sister", "nephew", "niece"),
]
COUPLES = {(0, 6): (2, 8), (1, 7): (3, 9), (2, 10): (), (3, 8): (5, 11), (4, 9): ()}
"""Husband and wife, and their children, as numbers of the persons above."""

TRAITS = {
    "nationality": np.repeat([0, 1], 12),
    "generation": np.tile([1, 1, 2, 2, 2, 3], 4),
    "branch": np.tile([0, 1, 0, 1, 1, 2, 0, 1, 0, 1, 0, 2], 2),  # those of Christopher, of Andrew, and of both
}
HELD_OUT = 4


def answers(person: int) -> list[set[int]]:
    """Who is the father of a person, and so on through `RELATIONS`, by numbers."""
    spouse = {one: other for couple in COUPLES for one, other in (couple, couple[::-1])}

    def children(those: set[int]) -> set[int]:
        return {child for couple, own in COUPLES.items() if those & {*couple} for child in own}

    def parents(those: set[int]) -> set[int]:
        return {one for couple, own in COUPLES.items() if those & {*own} for one in couple}

    def siblings(those: set[int]) -> set[int]:
        return children(parents(those)) - those

    def and_spouses(those: set[int]) -> set[int]:
        return those | {spouse[one] for one in those if one in spouse}

    own = {person}
    aunts = and_spouses(set().union(*(siblings({parent}) for parent in parents(own))))
    nieces = children(set().union(*(siblings({one}) for one in and_spouses(own))))
    kin = parents(own), and_spouses(own) - own, children(own), aunts, siblings(own), nieces
    men = {*range(6)}
    return [part for those in kin for part in (those & men, those - men)]


def facts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Persons (104, 24), relations (104, 12), and those who are the answers (104, 24), all 0 or 1."""
    rows = [
        (first + person, relation, [first + one for one in those])
        for first in (0, 12)
        for person in range(12)
        for relation, those in enumerate(answers(person))
        if those
    ]
    persons, relations, right = zip(*rows, strict=True)
    return np.eye(24)[list(persons)], np.eye(12)[list(relations)], np.array([np.eye(24)[n].sum(axis=0) for n in right])


NEAR = constant(0.2)
nbbp.losses.define(
    "liberal",
    lambda y, t: HALF(y) * (y - t) * (y - t) if abs(y - t) > NEAR(y) else ZERO(y),
    lambda y, t: y - t if abs(y - t) > NEAR(y) else ZERO(y),
    lambda y, t: np.where(abs(y - t) > y.dtype.type(0.2), 0.5 * (y - t) ** 2, 0),
    lambda y, t: np.where(abs(y - t) > y.dtype.type(0.2), y - t, 0),
    "1/2 sum (y - t)^2 over the outputs that are more than 0.2 from their target.",
    mean_over_outputs=False,
)


@dataclasses.dataclass(frozen=True)
class Later(nbbp.schedules.Schedule):
    """Another value after 20 sweeps."""

    first: float
    then: float

    def value(self, step):
        return self.first if step < 20 else self.then


class Decay(nbbp.callbacks.Callback):
    """Takes 0.2 % of every weight after each sweep."""

    def on_epoch_end(self, fit):
        fit.model.params *= 0.998


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The factor of the paper's rates, the largest initial weight, and the sweeps."""

    factor: float
    largest: float
    sweeps: int


RECIPES = {"1986": Recipe(1, 0.3, 1500), "what learns": Recipe(8, 3, 3000)}


def network(recipe: Recipe, seed: int) -> nbbp.Model:
    person, relation = nbbp.Input(24), nbbp.Input(12)
    x = nbbp.Concatenate()(nbbp.Dense(6, "sigmoid")(person), nbbp.Dense(6, "sigmoid")(relation))
    for units in (12, 6, 24):
        x = nbbp.Dense(units, "sigmoid")(x)
    rate = 0.01 * recipe.factor * (104 - HELD_OUT)  # the loss is a mean over facts, the paper's error their sum
    optimizer = nbbp.SGD(Later(rate / 2, rate), momentum=Later(0.5, 0.9))
    model = nbbp.Model([person, relation], x, loss="liberal", optimizer=optimizer)
    model.params[:] = np.random.default_rng(seed).uniform(-recipe.largest, recipe.largest, len(model.params))
    return model


@dataclasses.dataclass(frozen=True)
class Result:
    """A network; its loss in each sweep; which questions were held out (104,); and which it answers (104,).

    `right` says that each output is on its side of 1/2, as the paper asks, `first` that the answers are the largest.
    """

    model: nbbp.Model
    losses: np.ndarray
    new: np.ndarray
    right: np.ndarray
    first: np.ndarray

    def answered(self, new: bool, first: bool = False) -> np.ndarray:
        """Whether each new question, or each that was learned, is answered."""
        return (self.first if first else self.right)[self.new == new]

    @property
    def weights(self) -> np.ndarray:
        """From the persons to the six units (6, 24)."""
        return next(w for w in self.model.named_params().values() if w.shape == (24, 6)).T

    def explained(self, trait: str) -> np.ndarray:
        """The share of the variance of each unit's weights that is between those who differ in a trait (6,)."""
        groups = TRAITS[trait]
        means = np.array([self.weights[:, groups == group].mean(axis=1) for group in groups])
        return means.var(axis=0) / self.weights.var(axis=1)


def train(recipe: Recipe, seed: int) -> Result:
    persons, relations, targets = facts()
    new = np.zeros(len(targets), bool)
    new[np.random.default_rng(seed).choice(len(targets), HELD_OUT, replace=False)] = True
    model = network(recipe, seed)
    history = model.fit(
        [persons[~new], relations[~new]], targets[~new], recipe.sweeps, batch_size=np.sum(~new), shuffle=False,
        callbacks=[Decay()], verbose=0,
    )  # fmt: skip
    outputs = model.predict([persons, relations])
    first = np.where(targets, outputs, 1).min(axis=1) > np.where(targets, 0, outputs).max(axis=1)
    return Result(model, history.step_loss, new, ((outputs > 0.5) == targets).all(axis=1), first)


def best(results: list[Result]) -> Result:
    """The network that answers most of the new questions, and then most of the others."""
    return max(results, key=lambda result: (result.answered(new=True).sum(), result.right.sum()))


def report(results: dict[str, list[Result]]) -> None:
    for name, some in results.items():
        learned, new, first = (
            np.mean([result.answered(*of) for result in some]) for of in ((False,), (True,), (True, True))
        )
        print(f"{name}: {len(some)} networks answer {learned:.1%} of what they have learned, {new:.1%} of the others")
        print(f"  (the answers have the largest outputs in {first:.1%})")
    shown = best(some)
    print(f"the one that is drawn: {shown.answered(False).sum()} of 100, {shown.answered(True).sum()} of {HELD_OUT}")
    print("share of the variance of a unit's weights:" + "".join(f"{unit:6}" for unit in range(1, 7)))
    for trait in TRAITS:
        print(f"{trait:>42}" + "".join(f"{share:6.2f}" for share in shown.explained(trait)))


def reproduce(seeds: int = 24) -> Outcome:
    results = {name: [train(recipe, seed) for seed in range(seeds)] for name, recipe in RECIPES.items()}
    report(results)
    stuck, learned = results.values()
    as_printed, ours = (np.mean([result.answered(False) for result in some]) for some in (stuck, learned))
    new = np.array([result.answered(True).sum() for result in learned])
    explained = {trait: best(learned).explained(trait).max() for trait in TRAITS}
    claims = [
        Claim(
            "by the paper's rates and first weights, the network learns 100 of the 104 facts",
            "all 100, in 1,500 sweeps",
            f"{as_printed:.1%} of them, in the mean of {seeds} networks",
            bool(as_printed > 0.95),
        ),
        Claim(
            "it learns them by eight times the rates, from larger first weights, in twice the sweeps",
            "all 100, by the settings above",
            f"{ours:.1%} of them",
            bool(ours > 0.95),
        ),
        Claim(
            "it answers 3 or 4 of 4 questions that it was never asked",
            "4 of 4 in one network, 3 of 4 in another",
            f"{new.mean():.1f} of {HELD_OUT} in the mean; 3 or 4 in {(new >= 3).sum()} of {seeds} networks",
            bool(new.mean() >= 3),
        ),
        Claim(
            "units find nationality, generation and branch without being told (figure 4)",
            "one unit for nationality, others for generation and branch",
            ", ".join(f"{trait} {share:.0%} of a unit's variance" for trait, share in explained.items()),
            min(explained.values()) > 0.6,
        ),
    ]
    curves = [curve for result in (*stuck, *learned) for curve in (result.losses, result.model.params)]
    return Outcome(claims, curves, lambda path: draw(results, path))


def draw(results: dict[str, list[Result]], path) -> None:
    """The weights of six units of one network, and how many new questions all answer."""
    some = results["what learns"]
    figure = Figure(figsize=(11, 6.4), dpi=120, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.7, 1))
    shown = best(some)
    largest = np.abs(shown.weights).max()
    axes = left.subplots(6, 1)
    for unit, (axis, w) in enumerate(zip(axes, shown.weights, strict=True), 1):
        squares(axis, w.reshape(2, 12), largest)
        share, trait = max((shown.explained(trait)[unit - 1], trait) for trait in TRAITS)
        axis.text(11.8, 0.5, f"{trait}\n{share:.0%}", va="center", fontsize=8, color="black" if share > 0.6 else "0.6")
        axis.set_yticks([0, 1], ["English", "Italian"], fontsize=8)
        axis.set_ylabel(f"unit {unit}", fontsize=9)
    axes[0].xaxis.tick_top()
    axes[0].set_xticks(range(12), ENGLISH, rotation=35, ha="left", fontsize=8)
    axes[-1].set_xticks(range(12), ITALIAN, rotation=35, ha="right", rotation_mode="anchor", fontsize=8)
    left.suptitle("weights of persons, white if positive; what explains most of their variance", fontsize=11)

    axis = right.subplots()
    for k, name in enumerate(("outputs on their sides of 1/2", "the answer is largest")):
        counts = np.bincount([result.answered(True, bool(k)).sum() for result in some], minlength=HELD_OUT + 1)
        axis.bar(np.arange(HELD_OUT + 1) + 0.4 * k - 0.2, counts, 0.4, color=nbbp.plots.COLORS[k], label=name)
    axis.set(xlabel=f"of {HELD_OUT} new questions, answered", ylabel=f"networks, of {len(some)}")
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.grid(axis="y", alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="upper left")
    axis.margins(y=0.25)
    figure.savefig(path)


def squares(axis, w: np.ndarray, largest: float) -> None:
    """A square for each weight, its area the size, white if it is positive and black if not."""
    for (row, column), weight in np.ndenumerate(w):
        side = 0.95 * np.sqrt(abs(weight) / largest)
        corner = column - side / 2, row - side / 2
        axis.add_patch(Rectangle(corner, side, side, facecolor="white" if weight > 0 else "black", linewidth=0))
    axis.set(xlim=(-0.6, 11.6), ylim=(1.6, -0.6), aspect="equal", facecolor="0.65", xticks=[])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


if __name__ == "__main__":
    main(reproduce)
