"""IJB-B and IJB-C, 1:1: sets of images ("templates") are compared, 15.7 million pairs of them for IJB-C.

:func:`read_ijb` reads insightface's layout. The set takes embeddings in chunks, so neither the images nor
the embeddings of all of them are ever in memory together.
"""

from eval_tools.ijb.ijb_set import TAR_FMRS, AlignedFaces, IJBSet
from eval_tools.ijb.reader import read_ijb
from eval_tools.ijb.templates import ARCFACE_TORCH, CRFIQA, TemplateOptions

__all__ = [
    "ARCFACE_TORCH",
    "CRFIQA",
    "TAR_FMRS",
    "AlignedFaces",
    "IJBSet",
    "TemplateOptions",
    "read_ijb",
]
