"""Images with tags: benchmark collections, your own folder, and rendered photos."""

from ._folder import load_tagged_images
from ._mirflickr import load_mirflickr25k
from ._nus_wide import load_nus_wide
from ._social import make_social_images

__all__ = ["load_mirflickr25k", "load_nus_wide", "load_tagged_images", "make_social_images"]
