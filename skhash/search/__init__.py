"""Photos that are searched by photos and by words: hasher, index, ids and tags in one object."""

from ._image_search import ImageSearch
from ._results import Hit, SearchResult
from ._suggest import TagSuggestion

__all__ = ["Hit", "ImageSearch", "SearchResult", "TagSuggestion"]
