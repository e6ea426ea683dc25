"""Other people's numbers: embeddings, qualities and scored pairs that were computed elsewhere."""

from eval_tools.precomputed.images import Lookup, PrecomputedEmbeddings, PrecomputedQuality
from eval_tools.precomputed.pairs import ScoredPairs, read_scored_pairs

__all__ = ["Lookup", "PrecomputedEmbeddings", "PrecomputedQuality", "ScoredPairs", "read_scored_pairs"]
