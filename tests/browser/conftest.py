"""A real browser, the app, and JupyterLab. `make test-browser` runs this folder; `make test` leaves it out."""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from hgpose_utils.budget import ROOT
from hgpose_utils.scene import render_person

SCREENSHOTS = ROOT / "results/browser"
NAMES = ("chromium", "chromium-browser", "google-chrome")
SETTINGS = {  # JupyterLab's: cells out of view stay in the page, where a test can find them; no question about news
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
PATIENCE = 300_000  # milliseconds: notebook 4 trains before it shows anything


def find_chromium() -> str:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found or not shutil.which(found):
        pytest.exit(
            "no Chromium here: install it (apt-get install chromium), or say where it is: CHROMIUM=/path/to/it", 1
        )
    return found


@pytest.fixture(scope="session")
def chromium():
    as_root = ["--no-sandbox"] if os.getuid() == 0 else []  # Chromium's own sandbox refuses to run as root
    program = find_chromium()
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--disable-dev-shm-usage", *as_root])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, request):
    """A page whose last look is kept in results/browser/."""
    page = chromium.new_page(viewport={"width": 1100, "height": 1600})
    page.set_default_timeout(PATIENCE)
    yield page
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.evaluate("document.querySelector('img.widget-image')?.scrollIntoView({block: 'center'})")
    name = request.node.name.strip("]").replace("[", "-")
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    page.close()


@contextmanager
def serving(command, port, home, cwd=ROOT):
    """Runs a server until the block ends; a home of its own keeps its notes out of everybody else's."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "XDG", "IPYTHON"))}
    with open(home / "server.log", "w+") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=cwd, env=clean | {"HOME": str(home)}, stdout=log, stderr=log
        )
        try:
            wait_for(server, port, Path(log.name))
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()


def wait_for(server, port, log) -> None:
    """Returns when something listens on the port."""
    for _ in range(PATIENCE // 500):
        if server.poll() is not None:
            pytest.fail(f"the server ended: {log.read_text()[-1000:]}")
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server does not answer: {log.read_text()[-1000:]}")


@pytest.fixture(scope="session")
def free_port():
    """A function: a port that nobody listens on."""

    def find() -> int:
        with socket.create_server(("127.0.0.1", 0)) as place:
            return place.getsockname()[1]

    return find


@pytest.fixture(scope="session")
def app(tmp_path_factory, free_port):
    """The address of what `make app` serves."""
    port = free_port()
    with serving(["hgpose_utils", "app", "--port", str(port)], port, tmp_path_factory.mktemp("home")) as url:
        yield url


@pytest.fixture(scope="session")
def lab(tmp_path_factory, free_port):
    """The address of a JupyterLab on a copy of the notebooks."""
    home, port = tmp_path_factory.mktemp("home"), free_port()
    shutil.copytree(ROOT / "notebooks", home / "notebooks")
    for name, text in SETTINGS.items():
        settings = home / f".jupyter/lab/user-settings/@jupyterlab/{name}.jupyterlab-settings"
        settings.parent.mkdir(parents=True)
        settings.write_text(text)
    options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0", "--allow-root"]
    options += [
        "--IdentityProvider.token=",
        "--LabApp.extension_manager=readonly",
        f"--ServerApp.root_dir={home / 'notebooks'}",
    ]
    with serving(["jupyterlab", *options], port, home, cwd=home) as url:
        yield url


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    """A file with a person whom nobody has seen, wider than high."""
    path = tmp_path_factory.mktemp("photos") / "me.jpg"
    picture, _ = render_person(seed=13, size=400)
    wide = Image.new("RGB", (600, 400), "darkolivegreen")
    wide.paste(picture, (100, 0))
    wide.save(path)
    return path


@pytest.fixture(scope="session")
def large_photo(tmp_path_factory):
    """A file a megabyte above what a message may have."""
    path = tmp_path_factory.mktemp("photos") / "large.png"
    path.write_bytes(os.urandom(13_000_000))
    return path
