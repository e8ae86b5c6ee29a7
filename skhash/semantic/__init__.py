"""The semantic space of tags: sem-words mined from tags, and sem-vectors of images."""

from ._display import SemanticSpaceDisplay
from ._space import SemanticSpace

__all__ = ["SemanticSpace", "SemanticSpaceDisplay"]
