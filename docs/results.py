"""Draw the tables of benchmarks/RESULTS.md as figures, for `.. plot::` in the pages."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

RESULTS = Path("../benchmarks/RESULTS.md")  # `.. plot::` runs this file in its folder
TAGLESS, TAGS, ACCENT = "0.55", "tab:blue", "tab:orange"


def table(section: str, after: str = "") -> dict[str, dict[str, str]]:
    """Read a table.

    Parameters
    ----------
    section : str
        Beginning of the heading above the table.
    after : str
        Beginning of a line of the section. The first table after it is read.

    Returns
    -------
    dict of dict
        Cells, by the text of the first column and by the heads of the other columns.
        For features other than "vgg", their name is added to the text of the first column.
    """
    lines = RESULTS.read_text().splitlines()
    start = _find(lines, 0, rf"#+ {re.escape(section)}")
    start = _find(lines, start, re.escape(after))
    start = _find(lines, start, r"\|")
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("**", "") for cell in line.strip("| ").split("|")])
    head, _, *body = rows
    cells = {}
    for name, *values in body:
        row = dict(zip(head[1:], values, strict=False))
        features = row.pop("features", "vgg")
        cells[name if features.lower() in ("vgg", "raw") else f"{name}, {features}"] = row
    return cells


def _find(lines: list[str], start: int, pattern: str) -> int:
    for i in range(start, len(lines)):
        if re.match(pattern, lines[i]):
            return i
    raise LookupError(f"{RESULTS.name} has no line {pattern!r} below line {start + 1}.")


def number(cell: str) -> float:
    """Return the first number of a cell, for example the mean of "0.7028 ± 0.0003"."""
    return float(cell.split()[0].replace(",", ""))


def _rows(ax: Axes, names: list[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)


def compared_methods() -> None:
    """Draw the MAP of all methods, for short and long codes."""
    free = table("Without labels", "MAP")
    tagged = table("With social tags", "MAP")
    groups = {name: (row, TAGLESS) for name, row in free.items() if not name.startswith("DSTDH")}
    groups |= {name: (row, TAGS) for name, row in tagged.items()}
    shown = [
        (name, number(row["16 bits"]), number(row["64 bits"]), colour)
        for name, (row, colour) in groups.items()
        if "published" not in name and "bovw" not in name
    ]
    shown.sort(key=lambda row: row[2])
    _, ax = plt.subplots(figsize=(6.4, 6.4))
    for y, (_, short, long, colour) in enumerate(shown):
        ax.plot([short, long], [y, y], color=colour, lw=1)
        ax.plot(short, y, "o", color=colour, mfc="white")
        ax.plot(long, y, "o", color=colour)
    _rows(ax, [row[0] for row in shown])
    ax.invert_yaxis()
    ax.axvline(0.5505, color="0.7", ls="--", lw=1)
    ax.text(0.5515, 6, "chance", color="0.5", va="center")
    handles = [
        plt.Line2D([], [], color=TAGS, marker="o", lw=0, label="learns from tags"),
        plt.Line2D([], [], color=TAGLESS, marker="o", lw=0, label="without tags"),
        plt.Line2D([], [], color="k", marker="o", lw=0, label="64 bits"),
        plt.Line2D([], [], color="k", mfc="white", marker="o", lw=0, label="16 bits"),
    ]
    ax.legend(handles=handles, loc="lower right", frameon=False)
    ax.set_xlabel("mean average precision of test queries")


def code_lengths() -> None:
    """Draw the MAP by the length of codes."""
    rows = {"ITQ": table("Without labels", "MAP")["ITQ"]}
    tagged = table("With social tags", "MAP")
    rows |= {name: tagged[name] for name in ("SAH", "WMH, rotated", "TagITQ", "DSTDH-L")}
    _, ax = plt.subplots(figsize=(6.4, 3.6))
    bits = [16, 32, 64, 128]
    for name, row in rows.items():
        values = [number(row[f"{n} bits"]) for n in bits]
        (line,) = ax.plot(bits, values, "o-", ms=4)
        shift = {"TagITQ": -4, "DSTDH-L": 4}.get(name, 0)
        ax.annotate(
            name, (bits[-1], values[-1]), (6, shift), textcoords="offset points",
            color=line.get_color(), va="center",
        )  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_xticks(bits, map(str, bits))
    ax.set_xlim(15, 210)
    ax.set_xlabel("bits")
    ax.set_ylabel("mean average precision")
    ax.spines[["top", "right"]].set_visible(False)


def ablations() -> None:
    """Draw the MAP of DSTDH-L and of its ablations on real photos."""
    rows = table("Ablations", "MAP")
    names = {
        "DSTDH-L": "DSTDH-L, defaults",
        "DSTDH-L-D": "-D: no direct transfer",
        "DSTDH-L-I": "-I: no indirect transfer",
        "DSTDH-L-R": "-R: relaxed codes",
        "DSTDH-L-T": "-T: tags not denoised",
        "DSTDH-L-NT": "-NT: no tags",
        "DSTDH-L as released": "settings of the program",
        "DSTDH-L as printed": "settings of the paper",
    }
    values = [number(rows[name]["64 bits"]) for name in names]
    _, ax = plt.subplots(figsize=(6.4, 3.2))
    ax.barh(range(len(names)), values, color=[ACCENT, *[TAGS] * 5, *[TAGLESS] * 2], height=0.6)
    for y, value in enumerate(values):
        ax.text(value + 0.002, y, f"{value:.3f}", va="center")
    _rows(ax, list(names.values()))
    ax.set_xlim(0.55, 0.78)
    ax.set_xlabel("MAP at 64 bits (the axis begins at chance)")


def few_labels() -> None:
    """Draw the MAP with few labels, with and without learning from tags first."""
    _, axes = plt.subplots(1, 2, figsize=(6.4, 3), sharey=True)
    tags_alone = number(table("Tags alone", "MAP")["WP-X-"]["64 bits"])
    for ax, count in zip(axes, ("500", "2,000"), strict=True):
        rows = table("Few labels", f"{count} labelled photos. MAP")
        for x, name in enumerate(("KSH", "DSH", "DRSCH")):
            plain, first = (number(rows[n]["64 bits"]) for n in (name, f"WP-{name}"))
            ax.plot([x, x], [plain, first], color=TAGS, lw=1)
            ax.plot(x, plain, "o", color=TAGLESS, label="labels alone" if not x else None)
            ax.plot(x, first, "o", color=TAGS, label="tags, then labels" if not x else None)
        ax.axhline(tags_alone, color=ACCENT, ls="--", lw=1, label="tags alone")
        ax.set_xticks(range(3), ["KSH", "DSH", "DRSCH"])
        ax.set_xlim(-0.5, 2.5)
        ax.set_title(f"{count} labelled photos", fontsize="medium")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("MAP at 64 bits")
    axes[1].legend(frameon=False, loc="lower right", fontsize="small")


def found_by_words() -> None:
    """Draw the MAP of photos found by the names of labels."""
    rows = table("MIR Flickr: what tags mean", "64 bits:")
    names = [name.split(" (")[0] for name in rows]
    _, ax = plt.subplots(figsize=(6.4, 2.6))
    for y, row in enumerate(rows.values()):
        photo, tagged = number(row["names"]), number(row["names, tagged"])
        ax.plot([photo, tagged], [y, y], color=TAGS, lw=1)
        ax.plot(photo, y, "o", color=TAGLESS, label=None if y else "codes of photos")
        ax.plot(tagged, y, "o", color=TAGS, label=None if y else "codes of photos and tags")
    _rows(ax, names)
    ax.set_ylim(len(names) - 0.5, -1.6)
    ax.legend(frameon=False, ncols=2, loc="upper left", fontsize="small")
    ax.set_xlabel("MAP at 64 bits of queries by words")


def cost_of_fit() -> None:
    """Draw the seconds and memory of DSTDHLinear.fit."""
    rows = table("Cost of DSTDHLinear.fit")
    sizes = [number(size) for size in rows]
    _, axes = plt.subplots(1, 2, figsize=(6.4, 2.8))
    for ax, column, unit in zip(
        axes, ("seconds", "peak memory of the process"), ("seconds", "GB"), strict=True
    ):
        ax.plot(sizes, [number(row[column]) for row in rows.values()], "o-", color=TAGS)
        ax.set_ylim(0)
        ax.set_xlim(0)
        ax.set_xticks([0, 100_000, 200_000], ["0", "100,000", "200,000"])
        ax.set_xlabel("photos")
        ax.set_title(unit, fontsize="medium", loc="left")
        ax.spines[["top", "right"]].set_visible(False)


def decay_of_heads() -> None:
    """Draw the MAP of WP's first stage from random weights, by weight decay."""
    rows = table("Tags alone", "From random weights")
    _, ax = plt.subplots(figsize=(6.4, 2.6))
    for bits, colour in (("64 bits", TAGS), ("16 bits", TAGLESS)):
        points = sorted((number(decay), number(value)) for decay, value in rows[bits].items())
        ax.plot(*zip(*points, strict=True), "o-", color=colour, label=bits)
    ax.set_xscale("log")
    ax.set_xticks([5, 10, 20, 60], ["5", "10, default", "20", "60"])
    ax.minorticks_off()
    ax.set_xlabel("weight decay of the head")
    ax.set_ylabel("MAP")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
