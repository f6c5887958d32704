"""JupyterLab with nothing of the person who runs the tests, and a page of it driven by chromium."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import nbformat
from patience import PATIENCE, free_port, until

CHROMIUM = os.environ.get("FLATLAB_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
# --no-sandbox: containers run as root. The last four keep the browser from calling home.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def answers(address: str) -> bool:
    """Whether somebody serves there."""
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10):
        return True
    return False


@contextlib.contextmanager
def server(home: Path, cells: list[str]):
    """A server on a free port, with one notebook of `cells`, `tour.ipynb`; yields its address."""
    root = home / "root"
    root.mkdir(parents=True)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, root / "tour.ipynb")
    settings = home / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    environment = dict(
        os.environ,
        JUPYTER_CONFIG_DIR=str(home / "config"),
        JUPYTER_DATA_DIR=str(home / "data"),
        JUPYTER_RUNTIME_DIR=str(home / "runtime"),
        IPYTHONDIR=str(home / "ipython"),
    )
    port = free_port()
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
        *(f"--ServerApp.port={port}", "--IdentityProvider.token=", f"--ServerApp.root_dir={root}"),
        "--LabApp.expose_app_in_browser=True",  # window.jupyterapp: commands instead of menus
        *(f"--LabApp.user_settings_dir={home / 'settings'}", f"--LabApp.workspaces_dir={home / 'workspaces'}"),
    ]
    with open(home / "log", "w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}/api"))
        except AssertionError:
            raise RuntimeError((home / "log").read_text()) from None
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


class Notebook:
    """A notebook open in a page.

    Attributes:
        outside: requests that would leave the machine.
        errors: what the console reported as errors.
    """

    def __init__(self, browser, address: str, width: int = 1280, height: int = 800) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(PATIENCE * 1000)
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", self._request)
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{address}/doc/tree/tour.ipynb")
        self.page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext")
        # Run before the kernel is known and JupyterLab asks "Select Kernel".
        self.page.evaluate(
            "async () => { const w = jupyterapp.shell.currentWidget; await w.context.ready;"
            " await w.sessionContext.ready; await w.sessionContext.session.kernel.info }"
        )

    def run(self, cell: int) -> None:
        """Run a cell; a click in an output makes its cell the active one, so it is said which."""
        self.page.evaluate("index => { jupyterapp.shell.currentWidget.content.activeCellIndex = index }", cell)
        self.page.evaluate("() => jupyterapp.commands.execute('notebook:run-cell')")

    def write(self, cell: int, source: str) -> None:
        """Put source into a cell."""
        self.page.evaluate(
            "([index, source]) => { const nb = jupyterapp.shell.currentWidget.content;"
            " nb.widgets[index].model.sharedModel.setSource(source) }",
            [cell, source],
        )

    def hear(self) -> None:
        """Wait until the kernel has answered to all that it was told, and the page has had time to show it."""
        self.page.evaluate(
            "async () => { const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;"
            " await kernel.requestExecute({ code: '', silent: true }).done }"
        )
        self.page.wait_for_timeout(300)

    def output(self, cell: int):
        """The output area of a cell."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(cell).locator(".jp-OutputArea")

    def _request(self, request) -> None:
        if request.url.startswith("http") and "127.0.0.1" not in request.url:
            self.outside.append(request.url)
