"""Messages of the command line, with options in place of Python arguments."""

from __future__ import annotations

import argparse
import re
import sys

__all__ = ["in_options", "remark"]

# Messages of the library about arguments, and the same about options; longer patterns first.
_OPTIONS = {
    r"give the path of a state dict as weights, or weights=None for random ones": (
        "or give a file by --weights, or another network by --backbone"
    ),
    r"Name the model that the weights are of as backbone": (
        "Name the model that the weights are of by --backbone"
    ),
    r" \(see torchvision[^,]*, nor": ", nor",
    r"or use LSH, which": "or use --method LSH, which",
    r"backbone='([^']*)'": r"--backbone \1",
    r"^weights:? ": "--weights ",
    r"n_bits=(\d+)": r"--bits \1",
    r"\bn_bits\b": "--bits",
    r"; name the columns by image_column, tags_column and labels_column": "; rename its columns",
    r", or for a table pass its encoding, [^.]*": "",
    r", or for a table of UTF-16 pass encoding=[^.]*": "",
    r"Pass follow_links=True if they are there on purpose": (
        "Copy them into the folder, or take them out of the table"
    ),
    r"; all are in damaged_keywords": "",
}


def in_options(message: object) -> str:
    """A message with options in place of arguments.

    Parameters
    ----------
    message : str or exception
        Message of the library.

    Returns
    -------
    str
    """
    text = str(message) or type(message).__name__
    for pattern, option in _OPTIONS.items():
        text = re.sub(pattern, option, text)
    return text


def remark(args: argparse.Namespace, text: str) -> None:
    """Print a remark, which is neither a result nor an error, unless --quiet is given."""
    if not args.quiet:
        print(f"scikit-hash: {text}", file=sys.stderr, flush=True)
