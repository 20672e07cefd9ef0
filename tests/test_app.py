import socket

import pytest

from hgpose_utils import app
from hgpose_utils.files import HgposeError
from hgpose_utils.predict import SHIPPED
from hgpose_utils.widgets import LARGEST_UPLOAD


def test_it_shows_the_courses_network_and_those_trained_here(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "ROOT", tmp_path)
    assert list(app.load_networks()) == ["the course's own"]
    place = tmp_path / "results/course/runs/synthetic-128/hg-s1/seed0"
    place.mkdir(parents=True)
    (place / "best.safetensors").symlink_to(SHIPPED)
    assert list(app.load_networks()) == ["the course's own", "hg-s1, trained here"]


def test_a_taken_port_is_named_and_another_suggested():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HgposeError, match=f"127.0.0.1:{port}.*choose another port: make app PORT="):
            app.serve(port=port)


def test_the_largest_photo_fits_into_a_message_and_the_browser_knows_its_size():
    assert LARGEST_UPLOAD < app.LARGEST_MESSAGE <= 12_000_000
    assert f"file.size > {LARGEST_UPLOAD}" in app.refuse_large_files().data


def test_it_listens_to_this_machine_alone(monkeypatch):
    from voila.app import Voila

    servers = []
    monkeypatch.setattr(app, "check_free", lambda host, port: None)
    monkeypatch.setattr(Voila, "initialize", lambda server, arguments: None)
    monkeypatch.setattr(Voila, "start", lambda server: servers.append(server))
    app.serve()
    assert servers[0].ip == "127.0.0.1" and not servers[0].open_browser
    assert servers[0].tornado_settings["websocket_max_message_size"] == app.LARGEST_MESSAGE
