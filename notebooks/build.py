"""Execute the notebooks' scripts into .ipynb files with their pictures: `make notebooks`, or `build.py --check`.

Each `NN_name.py` becomes `NN_name.ipynb`, run in a folder of its own. Widget state is dropped (it is most of the size),
and so are widget views beside a picture: without their state a viewer would show an error in the picture's place.
`--check` says which notebooks are stale: cells that differ from the script, errors, widgets, or too large a file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from unchanged import digest

HERE = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
MOST_BYTES = 300_000
# Run last: panels were shown before anything was trained, and what stands for them is to show what came of it.
PICTURES = """
import base64, json, ipywidgets
from flatlab.lab.panel import Panel

def inside(widget):
    for child in getattr(widget, "children", ()):
        yield child
        yield from inside(child)

alive = ipywidgets.widgets.widget._instances.items()
panels = {model: panel for model, panel in alive if isinstance(panel, Panel) and panel.children}
inner = {one.model_id for panel in panels.values() for one in inside(panel)}
pictures = {model: panel.stand_in().png() for model, panel in panels.items() if model not in inner}
print(json.dumps({model: base64.b64encode(picture).decode() for model, picture in pictures.items()}))
"""


def scripts() -> list[Path]:
    """The notebooks' sources."""
    return sorted(HERE.glob("[0-9]*_*.py"))


def build(script: Path) -> Path:
    """Execute one notebook and write it."""
    notebook = jupytext.read(script)
    notebook.metadata = NotebookNode(kernelspec=KERNEL)
    with tempfile.TemporaryDirectory() as folder:
        notebook.cells.append(nbformat.v4.new_code_cell(PICTURES))
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    pictures = json.loads(notebook.cells.pop().outputs[-1].text)
    notebook.metadata.pop("widgets", None)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # jupytext draws new ones each time
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            cell.outputs = [one for output in cell.outputs if (one := still(output, pictures)) is not None]
    written = json.loads(nbformat.writes(notebook))
    written["metadata"]["flatlab"] = {"outputs": digest(written)}
    target = script.with_suffix(".ipynb")
    target.write_text(json.dumps(written, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    return target


def still(output: NotebookNode, pictures: dict[str, str]) -> NotebookNode | None:
    """An output that needs no widget state to be shown, a panel as it was at the end; None if nothing is left of it."""
    if "flatlab-gone" in output.get("data", {}).get("text/html", ""):  # what is said beside a dead panel
        return None
    if output.output_type in ("display_data", "execute_result") and WIDGET in output.data:
        model = output.data.pop(WIDGET)["model_id"]
        if model in pictures:
            output.data["image/png"] = pictures[model]
        if set(output.data) <= {"text/plain"}:
            return None
    return output


def faults(script: Path) -> list[str]:
    """What is wrong with the committed notebook of a script."""
    target = script.with_suffix(".ipynb")
    if not target.exists():
        return ["is missing"]
    text = target.read_text("utf-8")
    notebook, written = nbformat.reads(text, as_version=4), json.loads(text)
    wanted, found = ([(c.cell_type, c.source) for c in n.cells] for n in (jupytext.read(script), notebook))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    checks = {
        "differs from its script": wanted != found,
        "holds widget state": "widgets" in notebook.metadata,
        "holds a widget view": any(WIDGET in output.get("data", {}) for output in outputs),
        "holds an error": any(output.output_type == "error" for output in outputs),
        "was not executed": not outputs,
        "was run by hand": written["metadata"].get("flatlab", {}).get("outputs") != digest(written),
        f"is larger than {MOST_BYTES // 1000} kB": os.path.getsize(target) > MOST_BYTES,
    }
    return [fault for fault, there in checks.items() if there]


def main() -> int:
    """Build or check; the exit status says whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="execute nothing, name what is stale")
    parser.add_argument("names", nargs="*", help="only notebooks whose name contains one of these")
    options = parser.parse_args()
    chosen = [s for s in scripts() if not options.names or any(name in s.name for name in options.names)]
    stale = 0
    for script in chosen:
        if not options.check:
            print(build(script))
        for fault in faults(script):
            stale += 1
            print(f"{script.with_suffix('.ipynb').name} {fault}: run make notebooks", file=sys.stderr)
    return int(stale > 0)


if __name__ == "__main__":
    sys.exit(main())
