"""Evaluation of face recognition and of face image quality.

Figures (:mod:`eval_tools.plots`) and networks (:mod:`eval_tools.models`) load their libraries when imported.
"""

from eval_tools.erc import (
    ErrorRejectionCurve,
    error_rejection_curve,
    error_rejection_curves,
    image_rejection_curve,
    pair_quality,
)
from eval_tools.scores import UnresolvedFMRWarning
from eval_tools.significance import Band, Bootstrap, PairedComparison, bootstrap
from eval_tools.test_sets import TestSet, VerificationSet, degraded, open_test_set
from eval_tools.verification import (
    OperatingPoint,
    RocCurve,
    VerificationResult,
    all_pairs_operating_points,
    operating_point,
    roc_curve,
    verify,
    verify_similarities,
)

__all__ = [
    "Band",
    "Bootstrap",
    "ErrorRejectionCurve",
    "OperatingPoint",
    "PairedComparison",
    "RocCurve",
    "TestSet",
    "UnresolvedFMRWarning",
    "VerificationResult",
    "VerificationSet",
    "all_pairs_operating_points",
    "bootstrap",
    "degraded",
    "error_rejection_curve",
    "error_rejection_curves",
    "image_rejection_curve",
    "open_test_set",
    "operating_point",
    "pair_quality",
    "roc_curve",
    "verify",
    "verify_similarities",
]
