"""The explorers as a web page: the networks that it shows, what a browser may send it, and the server."""

import socket

from IPython.display import Javascript

from hgpose_utils.budget import ROOT
from hgpose_utils.files import HgposeError
from hgpose_utils.predict import PosePredictor
from hgpose_utils.widgets import LARGEST_UPLOAD

PAGE = ROOT / "notebooks/app.ipynb"
TRAINED_HERE = "results/course/runs/*/*/seed*/best.safetensors"
LARGEST_MESSAGE = LARGEST_UPLOAD + 2_000_000  #: bytes of one message from a browser: a photo and what is said about it

# A message that is too large costs the page its connection, without a word: so the browser looks at the file first.
# The upload button's file input is not part of the page; it can be caught when it is opened.
REFUSE_LARGE_FILES = """
const open = HTMLInputElement.prototype.click;
HTMLInputElement.prototype.click = function () {
    const refuse = event => {
        const large = Array.from(this.files || []).find(file => file.size > LIMIT);
        if (!large) return;
        event.stopImmediatePropagation();
        const megabytes = (large.size / 1e6).toFixed(1);
        alert(`${large.name} has ${megabytes} MB: choose a photo of at most ${LIMIT / 1e6} MB, or make it smaller`);
    };
    if (this.type === "file") this.addEventListener("change", refuse, {capture: true, once: true});
    open.call(this);
};
""".replace("LIMIT", str(LARGEST_UPLOAD))


def load_networks() -> dict[str, PosePredictor]:
    """The network that comes with the course and, if `make course` has trained one on this machine, that one too."""
    trained = [PosePredictor.load(file) for file in sorted(ROOT.glob(TRAINED_HERE))]
    return {"the course's own": PosePredictor.load()} | {f"{one.name}, trained here": one for one in trained}


def refuse_large_files() -> Javascript:
    """Shown on a page, this makes its upload buttons say so where a photo is too large, and send nothing."""
    return Javascript(REFUSE_LARGE_FILES)


def serve(host: str = "127.0.0.1", port: int = 8866) -> None:
    """Serves notebooks/app.ipynb with Voilà until Ctrl-C. An uploaded photo stays in the memory of its page's kernel.

    Raises `HgposeError` where the port cannot be had.
    """
    from traitlets.config import Config
    from voila.app import Voila

    check_free(host, port)
    server = Voila(
        ip=host,
        port=port,
        port_retries=0,
        open_browser=False,
        log_level="ERROR",
        tornado_settings={"websocket_max_message_size": LARGEST_MESSAGE, "ws_ping_timeout": 30_000},
        config=Config({"VoilaConfiguration": {"file_allowlist": []}}),  # the page alone, no file beside it
    )
    server.initialize([str(PAGE)])
    print(f"The explorers are at http://{host}:{port} (Ctrl-C ends them)", flush=True)
    server.start()


def check_free(host: str, port: int) -> None:
    """Raises `HgposeError` where nothing can listen there."""
    try:
        socket.create_server((host, port)).close()
    except (OSError, OverflowError) as e:
        reason = getattr(e, "strerror", None) or e
        raise HgposeError(f"cannot listen on {host}:{port}: {reason}; choose another port: make app PORT=8867") from e
