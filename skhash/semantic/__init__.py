"""What tags mean: the space of sem-words, and images as targets to learn from."""

from ._display import SemanticSpaceDisplay
from ._space import SemanticSpace
from ._tag_hasher import TagHasher
from ._targets import SemanticTargets

__all__ = ["SemanticSpace", "SemanticSpaceDisplay", "SemanticTargets", "TagHasher"]
