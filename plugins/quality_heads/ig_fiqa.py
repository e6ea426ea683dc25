from igfiqa_head.head import IGFIQAHead
from igfiqa_head.registry import QUALITY_HEADS

QUALITY_HEADS.register("ig_fiqa")(IGFIQAHead)
