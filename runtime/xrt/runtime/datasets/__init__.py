"""Labelled radiographs of any known layout as one table of cases, without torch.

A reader (`readers`, one module per layout) gives a `LabelledSet`: the images with the set's own labels. `label_mapping`
makes the classes of them that were asked for, and the result is a `CaseTable` (`table`), which splits and balances.
"""

from xrt.runtime.datasets.case import NO_FINDING, Case, LabelledBox
from xrt.runtime.datasets.readers import Classifier, is_dataset, open_dataset, open_dataset_for
from xrt.runtime.datasets.summary import describe
from xrt.runtime.datasets.table import CaseTable, Splits

__all__ = [
    "NO_FINDING",
    "Case",
    "CaseTable",
    "Classifier",
    "LabelledBox",
    "Splits",
    "describe",
    "is_dataset",
    "open_dataset",
    "open_dataset_for",
]
