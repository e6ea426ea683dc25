"""Test sets of all kinds behind one interface: images, pairs of them, and which pairs are genuine.

:func:`open_test_set` finds out what a path holds. Each format has a file of its own here; IJB-B and IJB-C,
whose pairs are of templates, are in :mod:`eval_tools.ijb`.
"""

from eval_tools.test_sets.csv_pairs import read_csv_set
from eval_tools.test_sets.degraded import degraded
from eval_tools.test_sets.insightface_bin import read_bin_set
from eval_tools.test_sets.interface import TestSet
from eval_tools.test_sets.labelled import read_folder_set, read_record_set
from eval_tools.test_sets.lfw import read_lfw_set
from eval_tools.test_sets.opening import open_test_set
from eval_tools.test_sets.pairing import all_pairs, balanced_pairs
from eval_tools.test_sets.verification_set import VerificationSet

__all__ = [
    "TestSet",
    "VerificationSet",
    "all_pairs",
    "balanced_pairs",
    "degraded",
    "open_test_set",
    "read_bin_set",
    "read_csv_set",
    "read_folder_set",
    "read_lfw_set",
    "read_record_set",
]
