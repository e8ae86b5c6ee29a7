"""The meaning of tags: the space of sem-words, and the targets of images for regression."""

from ._display import SemanticSpaceDisplay
from ._space import SemanticSpace
from ._tag_hasher import TagHasher
from ._targets import SemanticTargets

__all__ = ["SemanticSpace", "SemanticSpaceDisplay", "SemanticTargets", "TagHasher"]
