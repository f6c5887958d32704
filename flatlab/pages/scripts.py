"""What draws in the browser, as text: the bundle made when flatlab is built, and the landscapes' own scripts."""

from __future__ import annotations

import re
from pathlib import Path

LAB = Path(__file__).parents[1] / "lab"
BUNDLE = LAB / "bundle"
BUNDLED = ("index.js", "runs.js", "saved.js", "chart.css")
MISSING = (
    ""  # if there is nothing to be said
    if all((BUNDLE / file).exists() for file in BUNDLED)
    else "Curves are still pictures here: what draws them was not built, or is an earlier version's, as npm's registry"
    " could not be reached. Install flatlab again with a connection to have them drawn in the browser."
)
LANDSCAPE_CSS = LAB / "landscape.css"
VIEWS = {
    "landscape": ("scales.js", "plane.js", "surface.js", "marks.js", "panels.js", "pointer.js", "landscape.js"),
    "pulls": ("pull_moments.js", "pulls.js"),
    "timeline": ("timeline.js",),
}
_EXPORT = "export default { render };"


def view_module(view: str) -> str:
    """One of `VIEWS` as an ES module, as anywidget loads it."""
    return "\n".join((LAB / name).read_text("utf-8") for name in ("element.js", *VIEWS[view]))


def page_scripts() -> tuple[str, ...]:
    """What a page runs, in this order: other views, which leave their `render` as globals, and the page's own."""
    names = {"landscape": "flatlabLandscape", "pulls": "flatlabPulls", "timeline": "flatlabTimeLine"}
    alone = [_left_as(name, view_module(view)) for view, name in names.items()]
    own = (BUNDLE / "saved.js").read_text("utf-8")
    return tuple(inside(f"(() => {{\n{script}\n}})();") for script in (*alone, own))


def _left_as(name: str, module: str) -> str:
    """An ES module as a plain script, which leaves what it exports as a global."""
    return re.sub(r"^export ", "", module.replace(_EXPORT, f"globalThis.{name} = render;"), flags=re.M)


def page_styles() -> str:
    """The styles of all that a page shows."""
    page = Path(__file__).with_name("page.css")
    files = [page, LAB / "lab.css", LANDSCAPE_CSS] + ([] if MISSING else [BUNDLE / "chart.css"])
    return "\n".join(file.read_text("utf-8") for file in files)


def inside(script: str) -> str:
    """A script that ends nowhere before its end, when it stands inside a page."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
