"""Evaluation of face recognition and of face image quality.

The figures are in :mod:`eval_tools.plots`, which is not imported here because it needs matplotlib.
"""

from eval_tools.erc import (
    ErrorRejectionCurve,
    error_rejection_curve,
    error_rejection_curves,
    image_rejection_curve,
    pair_quality,
)
from eval_tools.scores import UnresolvedFMRWarning
from eval_tools.verification import (
    OperatingPoint,
    RocCurve,
    VerificationResult,
    all_pairs_operating_points,
    roc_curve,
    verify,
)

__all__ = [
    "ErrorRejectionCurve",
    "OperatingPoint",
    "RocCurve",
    "UnresolvedFMRWarning",
    "VerificationResult",
    "all_pairs_operating_points",
    "error_rejection_curve",
    "error_rejection_curves",
    "image_rejection_curve",
    "pair_quality",
    "roc_curve",
    "verify",
]
