"""The command line: make a search from a folder of photos, and query it.

This module has the options, and prints results and errors. The commands are in ``_tasks.py``, which
is imported only when a command runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._messages import in_options, remark

__all__ = ["main"]

METHODS = (
    *("TagITQ", "TagITQHasher", "DSTDHLinear", "DSTDHHasher", "SAH", "WMH"),
    *("ITQ", "PCAH", "LSH", "SGH", "SpectralHashing", "GreedyHash"),
)
_EXAMPLES = """\
  scikit-hash fit photos --tags tags.csv --out my-search
  scikit-hash search my-search photo.jpg --page answers.html
  scikit-hash words my-search "sunset beach"
"""
# Exit code of a program that Ctrl-C has ended.
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, default=None
        Arguments of the command line; None means those of the process.

    Returns
    -------
    int
        The exit code: 0, also if some photos could not be read; 1 after an
        error; 130 after Ctrl-C. Wrong options raise ``SystemExit`` with code
        2.
    """
    if sys.stderr is None:  # a program without a terminal may start others with none
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    parser = _parser()
    args = parser.parse_args(arguments)
    for name, value in vars(args).items():
        if value in ("", Path()) and name != "prefix":  # the shell had no value for it
            parser.error(f"{name} is empty")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # the terminal may be unable to show file names
            stream.reconfigure(errors="backslashreplace")
    args.progress = not args.quiet and (args.verbose or sys.stderr.isatty())
    try:
        # Only results go to the standard output.
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.showwarning = lambda message, *_, **__: remark(args, in_options(message))
            from . import _tasks

            data, lines = getattr(_tasks, args.command)(args)
        print(json.dumps(data, indent=1) if args.json else "\n".join(lines), flush=True)
    except KeyboardInterrupt:
        print("\nscikit-hash: interrupted; what was saved before is unchanged.", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError as error:
        text = f"not enough memory ({error}); use lower numbers, or fewer photos at a time."
        print(f"scikit-hash: error: {text}", file=sys.stderr)
        return 1
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"scikit-hash: error: {in_options(error)}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scikit-hash",
        description="Search a folder of photos, by photos and by words.",
        epilog=f"examples:\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, *groups: Any, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, parents=[group() for group in (*groups, _output)], help=help, description=help
        )

    fit = command("fit", _photos, _reading, help="learn from a folder of photos, and index it")
    fit.add_argument("--out", metavar="FOLDER", required=True, help="folder to save the search in")
    fit.add_argument("--force", action="store_true", help="replace an existing search")
    fit.add_argument(
        "--method",
        choices=METHODS,
        metavar="NAME",
        help=f"method of learning: {', '.join(METHODS)} (default: TagITQ; without tags ITQ)",
    )
    fit.add_argument("--bits", type=_count, default=64, help="length of a code (default: 64)")
    fit.add_argument(
        "--backbone",
        default="efficientnet_lite0",
        metavar="NAME",
        help="network that computes features: efficientnet_lite0, 1 or 2, a model of torchvision "
        "such as vgg16, or timm/NAME (default: efficientnet_lite0)",
    )
    fit.add_argument(
        "--weights",
        default="DEFAULT",
        metavar="FILE",
        help="weights of the network, .pth or .safetensors (default: installed or downloaded once)",
    )
    fit.add_argument(
        "--random-state",
        type=int,
        default=0,
        metavar="SEED",
        help="seed of all random choices (default: 0)",
    )

    add = command("add", _folder, _photos, _reading, help="index the new photos of a folder")
    add.add_argument(
        "--prefix", default="", metavar="TEXT", help="text to put before their names, such as 2024/"
    )

    remove = command("remove", _folder, help="remove photos from a search")
    remove.add_argument("names", nargs="+", metavar="NAME", help="name, as results show it")

    search = command(
        "search", _folder, _queries, _finding, _reading, help="find photos similar to others"
    )
    words = command("words", _folder, _finding, help="find photos by words")
    words.add_argument(
        "queries",
        nargs="+",
        metavar="WORDS",
        help='words of a query: "sunset beach", or "sunset, golden gate" if tags have spaces',
    )
    for finder in (search, words):
        _add_number(finder, 10, "how many photos to find (default: 10)")
    tags = command("tags", _folder, _queries, _reading, help="suggest tags for photos")
    _add_number(tags, 5, "how many tags to suggest at most (default: 5)")

    evaluate = command(
        "evaluate", _folder, help="measure how well photos find others with the same labels"
    )
    evaluate.add_argument(
        "--labels",
        required=True,
        metavar="TABLE",
        help="table with the columns 'file' (names as results show them) and 'labels'",
    )
    command("info", _folder, help="show what a search contains")
    return parser


# Groups of options that commands share.


def _group() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False)


def _folder() -> argparse.ArgumentParser:
    group = _group()
    group.add_argument("folder", metavar="FOLDER", help="folder of the search (--out of fit)")
    return group


def _photos() -> argparse.ArgumentParser:
    group = _group()
    group.add_argument("photos", metavar="PHOTOS", help="folder of photos, with its subfolders")
    group.add_argument(
        "--tags",
        metavar="TABLE",
        help="table of their tags (CSV, TSV, JSON Lines or Parquet) with columns 'file' and 'tags' "
        "(default: the keywords in the photos)",
    )
    return group


def _queries() -> argparse.ArgumentParser:
    group = _group()
    group.add_argument("queries", nargs="+", metavar="PHOTO", help="file of a photo")
    return group


def _reading() -> argparse.ArgumentParser:
    group = _group()
    group.add_argument("--cache", metavar="FOLDER", help="folder that keeps the features of photos")
    group.add_argument(
        "--workers",
        type=_count_of_workers,
        default=0,
        metavar="N",
        help="processes that read photos (default: 0, only this one)",
    )
    return group


def _finding() -> argparse.ArgumentParser:
    group = _group()
    group.add_argument(
        "--having", action="append", metavar="TAG", help="only photos with this tag (repeatable)"
    )
    group.add_argument(
        "--page", type=Path, metavar="FILE", help="write the photos found to an HTML page"
    )
    return group


def _output() -> argparse.ArgumentParser:
    group = _group()
    group.add_argument("--json", action="store_true", help="print the result as JSON")
    volume = group.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="store_true", help="show progress even in a file")
    volume.add_argument("-q", "--quiet", action="store_true", help="no progress and no remarks")
    return group


def _add_number(parser: argparse.ArgumentParser, default: int, help: str) -> None:
    parser.add_argument("-n", type=_count, default=default, metavar="N", dest="n", help=help)


def _count(text: str, least: int = 1, most: int = 2**31 - 1) -> int:
    # Python refuses to read thousands of digits.
    if not text.isdecimal() or len(text) > 99 or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(
            f"must be an integer from {least} to {most}, got {text[:99]!r}"
        )
    return int(text)


def _count_of_workers(text: str) -> int:
    from ..images import MAX_WORKERS

    return _count(text, 0, MAX_WORKERS)
