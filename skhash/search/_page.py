"""Results as HTML: a page without other files, and a part of a page for notebooks."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Any

from ..images import ImageReadError, read_thumbnail

if TYPE_CHECKING:
    from ._results import Hit, SearchResult

__all__ = ["fragment", "page", "thumbnail"]

_N_TAGS = 8
_N_QUERIES = 5  # in a notebook, whose file keeps its output
_SIZES = {"page": 320, "fragment": 160}  # of thumbnails, in pixels

# Colours are mixed from the colour of the text, so they suit light and dark backgrounds.
_STYLE = """
.skhash-search section { margin: 0 0 2.5rem; }
.skhash-search .query { display: flex; gap: 1rem; align-items: center; margin: 0 0 1rem; }
.skhash-search .query img { max-width: 7rem; max-height: 7rem; border-radius: 6px; }
.skhash-search h2 { font-size: 1.15rem; margin: 0; overflow-wrap: anywhere; }
.skhash-search p { margin: .2rem 0 0; opacity: .75; }
.skhash-search ol { list-style: none; margin: 0; padding: 0; display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(10.5rem, 44%), 1fr)); }
.skhash-search li.hit { margin: 0; min-width: 0; border-radius: 8px; overflow: hidden;
  border: 1px solid color-mix(in srgb, currentColor 18%, transparent); }
.skhash-search .picture { aspect-ratio: 1; display: grid; place-items: center; overflow: hidden;
  background: color-mix(in srgb, currentColor 7%, transparent); }
.skhash-search .picture img { width: 100%; height: 100%; object-fit: contain; margin: 0; }
.skhash-search .text { padding: .5rem .6rem .6rem; font-size: .85rem; line-height: 1.35; }
.skhash-search .name { font-weight: 600; overflow-wrap: anywhere; }
.skhash-search .tags { list-style: none; margin: .4rem 0 0; padding: 0; display: flex;
  flex-wrap: wrap; gap: .25rem; }
.skhash-search .tags li { margin: 0; padding: 0 .4rem; border-radius: 4px; font-size: .75rem;
  overflow-wrap: anywhere; background: color-mix(in srgb, currentColor 10%, transparent); }
"""
_PAGE_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --ground: #fff; }
@media (prefers-color-scheme: dark) { :root { --text: #e8eaed; --ground: #16181c; } }
* { box-sizing: border-box; }
body { margin: 0; color: var(--text); background: var(--ground);
  font: 16px/1.45 system-ui, sans-serif; }
main { max-width: 82rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.5rem; margin: 0 0 1.5rem; }
"""


def page(result: SearchResult, title: str) -> str:
    """A whole page."""
    sections = "".join(_section(result, query, _SIZES["page"]) for query in range(len(result)))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_PAGE_STYLE}{_STYLE}</style>\n</head>\n"
        f'<body>\n<main class="skhash-search">\n<h1>{html.escape(title)}</h1>\n'
        f"{sections or '<p>No queries.</p>'}\n</main>\n</body>\n</html>\n"
    )


def fragment(result: SearchResult) -> str:
    """The first few queries, for a notebook."""
    n_shown = min(len(result), _N_QUERIES)
    sections = "".join(_section(result, query, _SIZES["fragment"]) for query in range(n_shown))
    if n_shown < len(result):
        sections += f"<p>and {len(result) - n_shown} more queries</p>"
    return f'<div class="skhash-search"><style>{_STYLE}</style>{sections}</div>'


def _section(result: SearchResult, query: int, size: int) -> str:
    name, hits = result.queries[query], result[query]
    n_found = f"{len(hits)} photo{'' if len(hits) == 1 else 's'} found" if hits else "nothing found"
    return (
        f'<section>\n<div class="query">{_image(result.query_images[query], name, size)}'
        f"<div><h2>{html.escape(name)}</h2><p>{n_found}</p></div></div>\n"
        f"<ol>{''.join(_card(hit, size) for hit in hits)}</ol>\n</section>\n"
    )


def _card(hit: Hit, size: int) -> str:
    from ._results import number, shortened

    name = html.escape(str(hit.id))
    shown = html.escape(shortened(str(hit.id), 40))
    tags = [str(tag) for tag in hit.tags]
    described = f"{hit.id}: {', '.join(tags[:_N_TAGS])}" if tags else str(hit.id)
    picture = _image(hit.path, described, size) or "<span>no picture</span>"
    chips = "".join(f"<li>{html.escape(tag)}</li>" for tag in tags[:_N_TAGS])
    if len(tags) > _N_TAGS:
        rest = html.escape(", ".join(tags[_N_TAGS:]))
        chips += f'<li title="{rest}">{len(tags) - _N_TAGS} more</li>'
    if chips:
        chips = f'<ul class="tags">{chips}</ul>'
    return (
        f'<li class="hit"><div class="picture">{picture}</div><div class="text">'
        f'<div class="name" title="{name}">{shown}</div>'
        f"<div>distance {number(hit.distance)}</div>{chips}</div></li>\n"
    )


def _image(source: Any, described: str, size: int) -> str:
    """An image element, or nothing if there is no image that can be read."""
    jpeg = None if source is None else thumbnail(source, size)
    if jpeg is None:
        return ""
    content = base64.b64encode(jpeg).decode("ascii")
    return f'<img alt="{html.escape(described)}" src="data:image/jpeg;base64,{content}">'


def thumbnail(source: Any, size: int) -> bytes | None:
    """A small copy of an image as JPEG; None if it cannot be read.

    Parameters
    ----------
    source : path, PIL image or ndarray of uint8
        The image.
    size : int
        Largest length of the longer side, in pixels.

    Returns
    -------
    bytes or None
    """
    from PIL import Image

    try:
        pixels = read_thumbnail(source, size)
    except ImageReadError:
        return None
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return file.getvalue()
