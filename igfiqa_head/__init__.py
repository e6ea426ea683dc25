"""IG-FIQA: a face-image-quality head and loss for ArcFace-like training, and what is needed to use it.

Names that need torch are loaded when first asked for, so that scoring faces needs no torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from igfiqa_head.degradations import degrade
    from igfiqa_head.head import IGFIQAHead
    from igfiqa_head.quality_head import QualityRegressor
    from igfiqa_head.similarity import certainty_ratio, class_center_similarities
    from igfiqa_head.variance import IntraClassVariance, momentum_at

# From 1.29 on onnxruntime reports to Microsoft which models run where, and looks here when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = [
    "IGFIQAHead",
    "IntraClassVariance",
    "QualityRegressor",
    "certainty_ratio",
    "class_center_similarities",
    "degrade",
    "momentum_at",
]

_HOME = {
    "IGFIQAHead": "head",
    "IntraClassVariance": "variance",
    "QualityRegressor": "quality_head",
    "certainty_ratio": "similarity",
    "class_center_similarities": "similarity",
    "degrade": "degradations",
    "momentum_at": "variance",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(
            f"igfiqa_head.{name} needs torch: pip install 'igfiqa-head[train]'", name="torch"
        ) from None


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
