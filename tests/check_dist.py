"""Check what `python -m build` wrote to dist/, and try the wheel without the checkout.

    python tests/check_dist.py constraints.txt [constraints-oldest.txt ...]

The sdist must hold what git does, and the wheel, which is built from the sdist, the package as it
stands here. Then the wheel is installed into a new environment for each file of constraints, and
runs there README's example in a folder of its own. `make dist` builds and runs this.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

TRIAL = """
import importlib.metadata, pathlib, sys
import skhash

package = pathlib.Path(skhash.__file__).parent
assert package.is_relative_to(sys.prefix), package
assert (package / "py.typed").is_file()
assert skhash.__version__ == importlib.metadata.version("scikit-hash")
for name in skhash.__all__:
    getattr(skhash, name)
"""


def check_contents(sdist: Path, wheel: Path) -> None:
    """Compare the files of both with the checkout's."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True)
    tracked = set(listed.stdout.decode().splitlines())
    version = "skhash/_version.py"
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    expected = tracked | {version, "PKG-INFO"}
    assert packed == expected, f"in the sdist or in git alone: {sorted(packed ^ expected)}"

    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        package = {name: archive.read(name) for name in names}
    here = {name for name in tracked if name.startswith("skhash/")} | {version}
    assert package == {name: (ROOT / name).read_bytes() for name in here}


def try_wheel(wheel: Path, constraints: Path) -> None:
    """Install the wheel into a new environment; run README's example, and the command."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    with tempfile.TemporaryDirectory() as folder:

        def run(*words: str | Path) -> None:
            subprocess.run(words, cwd=folder, check=True)

        environment = Path(folder) / "environment"
        run(sys.executable, "-m", "venv", environment)
        scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
        python = scripts / "python"
        run(python, "-m", "pip", "install", "--quiet", "-c", constraints, wheel)
        run(python, "-m", "pip", "check")
        run(python, "-I", "-c", TRIAL + example)
        run(scripts / "scikit-hash", "--help")
    print(f"{wheel.name} works with {constraints.name}.", flush=True)


def main() -> None:
    """Check the one sdist and the one wheel of dist/."""
    (sdist,), (wheel,) = (list((ROOT / "dist").glob(end)) for end in ("*.tar.gz", "*.whl"))
    check_contents(sdist, wheel)
    for constraints in sys.argv[1:]:
        try_wheel(wheel, Path(constraints).resolve())


if __name__ == "__main__":
    main()
