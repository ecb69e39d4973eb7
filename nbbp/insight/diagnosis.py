"""Why a network does not train: findings in its history, and what to try."""

import dataclasses

import numpy as np

from nbbp.insight.inspection import Inspection
from nbbp.insight.norms import by_layer
from nbbp.training.history import History

# An untrained network's loss is that of the first step and, for chance, the scatter of the losses of late mini-batches.
VANISHED = 1e-3  # input's gradient over output's; healthy networks of up to nine layers have 0.5 or more
EXPLODED = 1e3  # the same the other way round
OVERSIZED = 1e2  # gradient over weights: one step at a learning rate of 0.01 replaces the weights
DIVERGED = 2.0  # last loss in untrained ones
RISEN = 0.1  # rise since the lowest mean loss, in untrained ones
RESTLESS = 0.005  # mean rise from epoch to epoch in the later half, in untrained losses; healthy fits have 0.0003
HASTY = 0.1  # an update over the weights; 0.001 is usual, and ten such steps forget everything
SLOW = 0.5  # last loss in untrained ones: less than half of the way in a whole fit
STEADY = 0.15  # the last quarter's share of the whole fall; a straight line has 0.25, one that flattens out far less
ROUGH = 0.1  # sum of rises over the whole fall, up to which a curve is smooth
OVERFITTED = 1.2  # latest validation loss over the best; healthy fits wander by 0.1
DEAD = 0.3  # share of a layer's units; healthy layers lose up to 0.2
SATURATED = 0.5  # share of a layer's outputs; healthy layers have up to 0.2
UNSCALED = 10.0  # a feature's mean or standard deviation; those of raw pixels, 0 to 255, are about 80
EPOCHS = 8  # least epochs for a trend
LATEST = 3  # epochs that are averaged, to reduce chance
PARTS = 20  # pieces of a fit whose mean losses are compared
NAMED = 3  # layers in a finding


@dataclasses.dataclass(frozen=True)
class Finding:
    """A conspicuous symptom.

    Attributes
    ----------
    name : str
        The name of the finding, such as "vanishing gradients".
    seen : str
        The numbers that show it.
    advice : str
        What to try, the most promising first.
    """

    name: str
    seen: str
    advice: str

    def __str__(self) -> str:
        return f"{self.name}: {self.seen}\n    try: {self.advice}"


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The result of `diagnose`, which prints as a text.

    Attributes
    ----------
    findings : tuple of Finding
    not_judged : tuple of str
        What the history does not show, and why.
    """

    findings: tuple[Finding, ...]
    not_judged: tuple[str, ...]

    def __contains__(self, name: str) -> bool:
        """Whether there is a finding of this name."""
        return any(finding.name == name for finding in self.findings)

    def __str__(self) -> str:
        lines = [str(finding) for finding in self.findings] or ["nothing conspicuous"]
        return "\n".join(lines + [f"not judged: {text}" for text in self.not_judged])


def diagnose(history: History) -> Diagnosis:
    """Report what is conspicuous in a history, and what to try.

    Names of findings: "divergence", "learning rate too high", "learning rate too low", "overfitting", "vanishing
    gradients", "exploding gradients", "dead relus", "saturated units", "unscaled features". The thresholds are the
    constants of `nbbp.insight.diagnosis`; they are rules of thumb, and a network may do well in spite of a finding.

    Parameters
    ----------
    history : History
        The history of a fit, or of a `DivergenceError`; a full diagnosis needs validation data and
        ``callbacks=[nbbp.Inspect()]``. If a second fit continued training, extend the first history by the second.

    Returns
    -------
    Diagnosis

    Examples
    --------
    >>> import nbbp
    >>> X, y = nbbp.datasets.load_digits()
    >>> model = nbbp.Sequential([nbbp.Dense(10)], loss="softmax_cross_entropy", optimizer=nbbp.SGD(1e-5))
    >>> print(nbbp.diagnose(model.fit(X, y, epochs=10, callbacks=[nbbp.Inspect()], verbose=0)))
    learning rate too low: after 10 epochs the loss is 2.4, first 2.51, and falls as steadily as in the beginning
        try: a learning rate 10 times as large; more epochs
    not judged: overfitting: the fit had no validation data
    """
    if not isinstance(history, History):
        raise TypeError(f"diagnose takes the History that fit returned, got {type(history).__name__}")
    findings, not_judged = [], []
    diverged = _divergence(history)
    findings += diverged
    if not diverged:
        findings += _learning_rate(history)
        if history.steps_before:
            not_judged.append(
                f"falls and rises of the loss: the network had been trained for {history.steps_before} steps before, "
                f"and its first loss is not known; first.extend(second) joins the histories of two fits"
            )
    validated = np.flatnonzero(~np.isnan(history.epochs.get("val_loss", ())))
    if not len(validated):
        not_judged.append("overfitting: the fit had no validation data")
    elif validated[-1] < len(history) - 1:
        not_judged.append(f"overfitting: there was no validation data after epoch {validated[-1] + 1}")
    elif len(validated) >= EPOCHS:
        findings += _overfitting(history, validated)
    elif len(history) >= EPOCHS:
        not_judged.append(f"overfitting: it needs validation data in {EPOCHS} epochs, and had them in {len(validated)}")
    if not diverged and len(history) < EPOCHS:
        not_judged.append(f"trends from epoch to epoch: they need {EPOCHS} epochs, there are {len(history)}")
    if history.inspected is not None:
        findings += _features(history.inspected)
    if history.inspected and not _outdated(history, history.inspected):
        findings += _gradients(history.inspected) + _units(history.inspected)
    elif history.inspected is None:
        not_judged.append("gradients and units: fit with callbacks=[nbbp.Inspect()]")
    elif history.inspected:
        last = history.inspected.steps[-1]
        not_judged.append(f"gradients and units: nbbp.Inspect has recorded nothing after step {last}")
    else:
        not_judged.append("gradients and units: the fit ended before nbbp.Inspect's first record; take a smaller every")
    return Diagnosis(tuple(findings), tuple(not_judged))


def _pieces(history: History) -> list[np.ndarray]:
    """The losses of consecutive pieces of the fit, `PARTS` of them or one for each step."""
    losses = history.step_loss
    return np.array_split(losses, min(PARTS, len(losses)))


def _untrained(history: History) -> float:
    """The loss before any training, chance included."""
    return float(history.step_loss[0] + np.std(_pieces(history)[-1]))


def _divergence(history: History) -> list[Finding]:
    losses = history.step_loss
    if not len(losses):
        return []
    advice = "a learning rate 10 times smaller; standardised features and targets; clipped gradients"
    if not np.isfinite(losses[-1]):
        return [Finding("divergence", f"the loss became {losses[-1]} in step {len(losses)}", advice)]
    last = _pieces(history)[-1].mean()
    if not history.steps_before and last > DIVERGED * _untrained(history):
        seen = f"the mean loss is {last:.3g} at the end and was {losses[0]:.3g} at first"
        return [Finding("divergence", seen, advice)]
    return []


def _learning_rate(history: History) -> list[Finding]:
    if not len(history.step_loss):
        return []
    return _too_high(history) or ([] if history.steps_before else _too_low(history))


def _too_high(history: History) -> list[Finding]:
    signs = [] if history.steps_before else _rises(history)
    if history.inspected and not _outdated(history, history.inspected):
        sizes = _updates(history.inspected)
        layer = max(sizes, key=lambda name: sizes[name])
        if sizes[layer] > HASTY:
            signs.append(f"a step changes the parameters of {layer} by {sizes[layer]:.0%}")
    advice = "a learning rate 3 to 10 times smaller, or a schedule that lowers it; larger mini-batches"
    return [Finding("learning rate too high", "; ".join(signs), advice)] if signs else []


def _rises(history: History) -> list[str]:
    """The ways in which the loss rises."""
    untrained, pieces, signs = _untrained(history), _pieces(history), []
    levels = [float(piece.mean()) for piece in pieces]
    chance = 3 * np.std(pieces[-1]) / np.sqrt(len(pieces[-1]))
    if len(pieces[-1]) > 1 and levels[-1] > min(levels) + RISEN * untrained + chance:
        signs.append(f"the mean loss has risen from {min(levels):.3g} to {levels[-1]:.3g}")
    rises = np.maximum(np.diff(history.epochs.get("loss", ())), 0)
    if len(history) >= EPOCHS and rises[len(rises) // 2 :].mean() > RESTLESS * untrained:
        signs.append("the loss jumps up and down from epoch to epoch")
    return signs


def _too_low(history: History) -> list[Finding]:
    if len(history) < EPOCHS:
        return []
    losses, first = np.array(history["loss"]), history.step_loss[0]
    fall, late = losses[0] - losses[-1], losses[-1 - len(losses) // 4] - losses[-1]
    smooth = np.maximum(np.diff(losses), 0).sum() < ROUGH * fall
    if not (smooth and late > STEADY * fall and losses[-1] > SLOW * _untrained(history)):
        return []
    seen = (
        f"after {len(losses)} epochs the loss is {losses[-1]:.3g}, first {first:.3g}, "
        f"and falls as steadily as in the beginning"
    )
    return [Finding("learning rate too low", seen, "a learning rate 10 times as large; more epochs")]


def _updates(inspection: Inspection) -> dict[str, float]:
    """The median over the records of each layer's update, relative to its parameters."""
    weights = by_layer(inspection.weights)
    changed = by_layer({name: share * inspection.weights[name] for name, share in inspection.updates.items()})
    return {name: float(np.median(_ratio(changed[name], weights[name]))) for name in weights}


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, with 0 / 0 = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(a > 0, a / b, 0.0)


def _outdated(history: History, inspection: Inspection) -> bool:
    """Whether a fit without `nbbp.Inspect` has continued training since the last record."""
    since = history.steps_before + history.steps - inspection.steps[-1]
    return bool(since > np.diff(inspection.steps, prepend=0).max())


def _overfitting(history: History, validated: np.ndarray) -> list[Finding]:
    """Overfitting, judged by the epochs (validated,), counted from 0, that have a validation loss."""
    loss, held_out = np.array(history["loss"])[validated], np.array(history["val_loss"])[validated]
    best = int(np.argmin(held_out))
    latest = held_out[-LATEST:].mean()
    if len(held_out) - 1 - best < LATEST or latest < OVERFITTED * held_out[best] or loss[-1] >= loss[best]:
        return []
    seen = (
        f"the validation loss was lowest in epoch {validated[best] + 1}, {held_out[best]:.3g}, and has risen to "
        f"{latest:.3g}, while the loss fell from {loss[best]:.3g} to {loss[-1]:.3g}"
    )
    advice = (
        "more data; nbbp.callbacks.EarlyStopping(); nbbp.Dropout(0.3) between layers, l2 or AdamW's weight decay; "
        "fewer units"
    )
    return [Finding("overfitting", seen, advice)]


def _gradients(inspection: Inspection) -> list[Finding]:
    layers = {name: float(np.median(sizes)) for name, sizes in by_layer(inspection.gradients).items()}
    first, last = next(iter(layers)), list(layers)[-1]
    seen = f"the gradient's norm is {layers[last]:.2g} in {last} and {layers[first]:.2g} in {first}"
    cut_off = any(share[-1] == 1 for share in inspection.dead.values())
    if layers[first] < VANISHED * layers[last] and not cut_off:
        advice = "relu with he_normal, or tanh with glorot weights; BatchNorm or LayerNorm; Residual; fewer layers"
        return [Finding("vanishing gradients", seen, advice)]
    advice = "smaller first weights (he_normal, glorot_uniform); LayerNorm; clipped gradients; standardised targets"
    if layers[first] > EXPLODED * layers[last] > 0:
        return [Finding("exploding gradients", seen, advice)]
    weights = by_layer(inspection.weights)
    ratios = {name: float(np.median(_ratio(s, weights[name]))) for name, s in by_layer(inspection.gradients).items()}
    worst = max(ratios, key=lambda name: ratios[name])
    if not ratios[worst] <= OVERSIZED:
        seen = f"the gradient of {worst} is {ratios[worst]:.2g} times as large as its parameters"
        return [Finding("exploding gradients", seen, advice)]
    return []


def _features(inspection: Inspection) -> list[Finding]:
    sizes = np.maximum(np.abs(inspection.means), inspection.deviations)
    if not sizes.max(initial=0) > UNSCALED:
        return []
    j, more = int(np.argmax(sizes)), np.count_nonzero(sizes > UNSCALED) - 1
    seen = f"feature {j} has mean {inspection.means[j]:.3g} and standard deviation {inspection.deviations[j]:.3g}"
    seen += f", and {more} more are like it" if more else ""
    return [Finding("unscaled features", seen, "each feature minus its mean, divided by its standard deviation")]


def _units(inspection: Inspection) -> list[Finding]:
    findings = []
    dead, saturated = _worst(inspection.dead, DEAD), _worst(inspection.saturated, SATURATED)
    if dead:
        advice = "a smaller learning rate; leaky_relu or gelu; he_normal weights; LayerNorm or BatchNorm"
        findings.append(Finding("dead relus", f"0 for every row are {dead}", advice))
    if saturated:
        advice = "standardised features; smaller first weights; a smaller learning rate; relu; LayerNorm"
        findings.append(Finding("saturated units", f"within 1 percent of a limit are {saturated}", advice))
    return findings


def _worst(shares: dict[str, np.ndarray], limit: float) -> str:
    """The layers whose latest share is above the limit, in words."""
    above = sorted(((share[-1], name) for name, share in shares.items() if share[-1] > limit), reverse=True)
    text = ", ".join(f"{share:.0%} of {name}" for share, name in above[:NAMED])
    return text + (f" and much of {len(above) - NAMED} more layers" if len(above) > NAMED else "")
