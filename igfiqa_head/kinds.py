"""The kinds of ONNX files that :func:`igfiqa_head.export.export_onnx` writes, named in their metadata."""

OUTPUTS = {
    "quality": ("quality",),
    "embedding": ("embedding",),
    "both": ("embedding", "quality"),
    "fused": ("embedding",),
}
"""Kind -> names of its outputs: ``quality`` is [N, 1], ``embedding`` [N, D]. In a fused file the length of
the embedding is softplus(quality)."""
