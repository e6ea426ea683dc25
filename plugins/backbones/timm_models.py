"""Any network of timm as a face backbone: ``get_model("timm:NAME")``.

timm's classifiers average the final map and so forget where in the face a feature was seen. On aligned faces
that is informative: a small map is flattened into the embedding layer as in ArcFace
(https://arxiv.org/abs/1801.07698, option E: BN - dropout - FC - BN). Networks that end in tokens, or in a map
of more than 7 x 7 positions, are pooled in their own way first.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from plugins.backbones._common import IMAGE_SHAPE, Backbone, embedding_norm

T = TypeVar("T")
MAX_MAP_SIZE = 7


class TimmBackbone(Backbone):
    """Images [B, 3, 112, 112] -> embeddings [B, num_features], from a randomly initialised timm network.

    What the network has only for its classifier is removed: no parameter stays without a gradient.

    Args:
        name: a name of ``timm.list_models()``.
        dropout: probability before the embedding layer.
        fp16: half precision in timm's part.
        num_features: size of the embedding.

    Raises:
        ValueError: timm has no such network, or the network cannot take 112 x 112 images.
    """

    def __init__(
        self, name: str, *, dropout: float = 0.0, fp16: bool = False, num_features: int = 512
    ) -> None:
        super().__init__(fp16)
        self.model = _create(name)
        self.layout = _map_layout(self._probe(name, self.model.forward_features), self.model.num_features)
        features = self._probe(name, self.trunk)
        _remove_unused(self.model, features)
        layers = [
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(features[0].numel(), num_features, bias=False),
            embedding_norm(num_features),
        ]
        if self.layout is not None:
            layers.insert(0, nn.BatchNorm2d(self.model.num_features))
        self.embedding = nn.Sequential(*layers)

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        features = self.model.forward_features(images)
        if self.layout is None:
            return self.model.forward_head(features, pre_logits=True)
        return features if self.layout == "NCHW" else features.permute(0, 3, 1, 2)

    def head(self, features: torch.Tensor) -> torch.Tensor:
        return self.embedding(features)

    def _probe(self, name: str, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """What ``function`` makes of one blank image, with its graph."""
        device = next(self.model.parameters()).device
        self.model.eval()  # a batch of one has no statistics, and the running ones must not change
        features = _supported(name, lambda: function(torch.zeros(1, *IMAGE_SHAPE, device=device)))
        self.model.train()
        return features


def _create(name: str) -> Any:
    import timm

    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f" Did you mean {' or '.join(repr(f'timm:{match}') for match in close)}?" if close else ""
        raise ValueError(f"unknown timm network {name!r}.{hint} timm.list_models() lists all names")
    config = timm.get_pretrained_cfg(name)
    size: dict[str, Any] = {}
    if config is not None and config.fixed_input_size:  # only these take the argument, and they need it
        size["img_size"] = IMAGE_SHAPE[1]
    return _supported(name, lambda: timm.create_model(name, pretrained=False, num_classes=0, **size))


def _supported(name: str, attempt: Callable[[], T]) -> T:
    """The result of ``attempt``; timm reports an unsupported size with any of these exceptions."""
    try:
        return attempt()
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"timm network {name!r} cannot embed 112 x 112 images ({type(error).__name__}: {error}); "
            "choose one without a fixed input size, such as 'timm:resnet18'"
        ) from error


def _map_layout(features: object, channels: int) -> str | None:
    """The order of axes of a map of at most 7 x 7 positions; None for larger maps, tokens and the like."""
    if not isinstance(features, torch.Tensor) or features.ndim != 4:
        return None
    _, second, third, fourth = features.shape
    if second == channels and max(third, fourth) <= MAX_MAP_SIZE:
        return "NCHW"
    if fourth == channels and max(second, third) <= MAX_MAP_SIZE:
        return "NHWC"
    return None


def _remove_unused(model: nn.Module, features: torch.Tensor) -> None:
    """Replace the children of ``model`` on which ``features`` do not depend.

    Distributed training fails on parameters without a gradient, and they would be saved for nothing.
    """
    features.sum().backward()
    for name, child in model.named_children():
        gradients = [p.grad for p in child.parameters() if p.requires_grad]
        if gradients and all(gradient is None for gradient in gradients):
            setattr(model, name, nn.Identity())
    model.zero_grad(set_to_none=True)
