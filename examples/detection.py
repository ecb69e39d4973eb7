"""A digit is found and named: one trunk of convolutions, and two outputs.

Each scene is 32 x 32 pixels and contains one whole digit, stretched to as many as 18 pixels, and scraps of others. One
output says which digit it is; the other gives its box, whose centre and size are fractions of the scene. A
cross-entropy and a Huber loss are added, as by Girshick, "Fast R-CNN", 2015. Boxes are measured by the intersection
over the union of the true one and the predicted one. The digits of test scenes are in no training scene.
"""

import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import nbbp

SIDE = 32
SCRAPS = 4


def scenes(digits: np.ndarray, labels: np.ndarray, count: int, seed: int):
    """Scenes (count, 32, 32, 1), the digits in them (count,), and their boxes (count, 4)."""
    rng = np.random.default_rng(seed)
    X, boxes = np.zeros((count, SIDE, SIDE, 1), np.float32), np.zeros((count, 4), np.float32)
    chosen = rng.integers(len(digits), size=count)

    def paste(canvas: np.ndarray, image: np.ndarray) -> tuple[int, int]:
        top, left = (int(rng.integers(SIDE - n + 1)) for n in image.shape)
        part = canvas[top : top + image.shape[0], left : left + image.shape[1]]
        np.maximum(part, image, out=part)
        return top, left

    for canvas, box, k in zip(X[..., 0], boxes, chosen, strict=True):
        for other in digits[rng.integers(len(digits), size=SCRAPS)]:
            y, x = rng.integers(5, size=2)
            paste(canvas, other[y : y + 4, x : x + 4])
        rows, columns = (np.arange(n) * 8 // n for n in rng.integers(10, 19, size=2))
        image = digits[k][np.ix_(rows, columns)]
        image = image[image.any(axis=1)][:, image.any(axis=0)]
        height, width = image.shape
        top, left = paste(canvas, image)
        box[:] = np.array([left + width / 2, top + height / 2, width, height]) / SIDE
    return X, labels[chosen], boxes


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union, box by box (rows,)."""
    ends = [(b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2) for b in (boxes, others)]
    first, last = np.maximum(ends[0][0], ends[1][0]), np.minimum(ends[0][1], ends[1][1])
    shared = np.prod(np.clip(last - first, 0, None), axis=1)
    return shared / (np.prod(boxes[:, 2:], axis=1) + np.prod(others[:, 2:], axis=1) - shared)


def mean_overlap(y: np.ndarray, prediction: np.ndarray) -> float:
    return float(overlaps(y, prediction).mean())


def network(steps: int) -> nbbp.Model:
    x = h = nbbp.Input((SIDE, SIDE, 1), name="scene")
    for filters, pool in ((16, 2), (32, 2), (64, 1), (64, 1)):
        h = nbbp.Conv2D(filters, 3, padding="same", use_bias=False, initializer="he_normal")(h)
        h = nbbp.Activation("relu")(nbbp.BatchNorm()(h))
        h = nbbp.MaxPool2D(pool)(h) if pool > 1 else h
    what = nbbp.GlobalMaxPool()(h)  # the same wherever the digit is
    where = nbbp.Flatten()(nbbp.Conv2D(32, 1, activation="relu")(h))
    return nbbp.Model(
        x,
        {"digit": nbbp.Dense(10)(what), "box": nbbp.Dense(4)(nbbp.Dense(128, "relu")(where))},
        loss={"digit": "softmax_cross_entropy", "box": "huber"},
        loss_weights={"digit": 1.0, "box": 100.0},  # errors are of some hundredths of the scene
        metrics={"digit": ["accuracy"], "box": [mean_overlap]},
        optimizer=nbbp.Adam(nbbp.schedules.Cosine(0.002, steps)),
    )


def data(count: int):
    """Scenes to train on, and a tenth as many to test on."""
    X, y = nbbp.datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(X))
    images, y = X[order].reshape(-1, 8, 8), y[order]
    return scenes(images[:1400], y[:1400], count, seed=1), scenes(images[1400:], y[1400:], count // 10, seed=2)


def train(count: int = 8000, epochs: int = 12, verbose: int = 1):
    """The history, the test scenes, and what is predicted for them."""
    (X, y, boxes), test = data(count)
    model = network(steps=epochs * -(-count // 64))
    held_out = test[0], {"digit": test[1], "box": test[2]}
    history = model.fit(X, {"digit": y, "box": boxes}, epochs, 64, validation_data=held_out, verbose=verbose)
    return history, test, model.predict(test[0])


def draw(history: nbbp.History, test, prediction: dict[str, np.ndarray], path) -> None:
    figure = Figure(figsize=(10.5, 4.6), dpi=120, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2))
    blue, orange, green, *_ = nbbp.plots.COLORS
    axis, epochs = left.subplots(), np.arange(1, len(history) + 1)
    axis.plot(epochs, history["val_digit_accuracy"], color=blue, label="digits named rightly")
    axis.plot(epochs, history["val_box_mean_overlap"], "--", color=green, label="mean intersection over union")
    axis.set(xlabel="epoch", title="test scenes", ylim=(0, 1))
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")
    for k, panel in enumerate(right.subplots(3, 5).flat):
        panel.imshow(test[0][k, ..., 0], cmap="gray", vmin=0, vmax=1)
        for box, color, dashes in ((test[2][k], green, "-"), (prediction["box"][k], orange, "--")):
            corner, size = SIDE * (box[:2] - box[2:] / 2) - 0.5, SIDE * box[2:]  # a pixel's centre is at its index
            panel.add_patch(Rectangle(corner, *size, fill=False, color=color, linestyle=dashes, linewidth=1.8))
        named = int(prediction["digit"][k].argmax())
        note = "" if named == test[1][k] else f", named {named}"
        panel.set_title(f"{test[1][k]}{note}", fontsize=9, color=orange if note else "black", pad=2)
        panel.axis("off")
    right.suptitle("the box is solid green, the predicted box dashed orange", fontsize=11)
    figure.savefig(path)


if __name__ == "__main__":
    picture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "plots/detection.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    history, test, prediction = train()
    accuracy, overlap = history["val_digit_accuracy"][-1], history["val_box_mean_overlap"][-1]
    print(f"test scenes: accuracy {accuracy:.4f}, mean intersection over union {overlap:.4f}")
    draw(history, test, prediction, picture)
