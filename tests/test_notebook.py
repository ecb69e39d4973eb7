"""What notebooks show for models and histories."""

import base64
import html.parser
import io
import re

import numpy as np
import pytest
from matplotlib.image import imread

import nbbp

X = np.eye(4)


class Cells(html.parser.HTMLParser):
    """Rows of the table, and the tags that are open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows, self.open = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def model(**settings) -> nbbp.Sequential:
    layers = [nbbp.Dense(3, "relu"), nbbp.Dropout(0.2), nbbp.Dense(4)]
    return nbbp.Sequential(layers, optimizer=nbbp.Adam(0.01), backend="numpy", **settings)


def test_a_model_that_is_not_built_shows_its_layers():
    shown = model()._repr_html_()
    names = [row[0] for row in Cells(shown).rows]
    assert names == ["layer", "Dense(units=3, activation='relu')", "Dropout(rate=0.2)", "Dense(units=4)"]
    assert "loss: mse" in shown
    assert "Adam(learning_rate=0.01," in shown


def test_a_built_model_shows_outputs_and_parameters():
    built = model()
    built.build(4)
    rows = Cells(built._repr_html_()).rows
    assert ["dense_0", "(3,)", "15"] in rows
    assert rows[-1] == ["total", "", "31"]
    assert [row[0] for row in rows] == [line.split("  ")[0] for line in built.summary().splitlines()[:-1]]


def test_a_history_shows_its_values_and_the_curve():
    history = model().fit(X, X, epochs=5, batch_size=2, validation_data=(X, X), verbose=0)
    shown = history._repr_html_()
    rows = {name: values for name, *values in Cells(shown).rows}
    losses = history["val_loss"]
    assert rows["val_loss"] == [f"{value:.4g}" for value in (losses[-1], min(losses), max(losses))]
    assert "5 epochs, 10 steps" in shown
    picture = imread(io.BytesIO(base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', shown)[1])))
    assert picture.shape[1] == 960
    assert picture[0, 0, 3] == 0  # the page's own ground shows through


@pytest.mark.parametrize("value", [1.5, float("nan")])
def test_names_are_escaped(value):
    def a_metric(y, prediction):
        return value

    a_metric.__name__ = "<script>alert(1)</script>"
    stop = nbbp.callbacks.Call(lambda fit: fit.stop("1 < 2 & so on"))
    history = model(metrics=[a_metric]).fit(X, X, verbose=0, callbacks=[stop])
    shown = history._repr_html_()
    assert "<script>" not in shown
    assert "1 &lt; 2 &amp; so on" in shown
    assert ["<script>alert(1)</script>", *[f"{value:.4g}"] * 3] in Cells(shown).rows


def test_a_history_without_an_epoch_shows_no_table():
    history = nbbp.History(steps_per_epoch=2)
    assert history._repr_html_() == "<p>0 epochs, 0 steps</p>"
    history.add_steps(np.array([1.0]))
    assert "<table>" not in history._repr_html_()
    assert "<img" in history._repr_html_()
