"""Recognisers and quality methods: what they are and how they are opened."""

from eval_tools.cache import ImageFunction
from eval_tools.models.functions import EmbeddingNorm, OnnxQuality, OnnxRecogniser, RandomQuality, Sharpness
from eval_tools.models.opening import Quality, Recogniser, open_quality, open_recogniser

__all__ = [
    "EmbeddingNorm",
    "ImageFunction",
    "OnnxQuality",
    "OnnxRecogniser",
    "Quality",
    "RandomQuality",
    "Recogniser",
    "Sharpness",
    "open_quality",
    "open_recogniser",
]
