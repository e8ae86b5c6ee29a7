from ._image_search import ImageSearch as ImageSearch
from ._results import Hit as Hit
from ._results import SearchResult as SearchResult
from ._suggest import TagSuggestion as TagSuggestion
