"""Where the explorer is shown: a server that answers its own page alone, a command, and a widget."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import geodesic
from geodesic.errors import InputError
from geodesic.experiment.explore import scene_of_run
from geodesic.explorer.serve import PORT, listen
from geodesic.explorer.server import FILES
from geodesic.explorer.session import Session
from geodesic.installation import hint
from tests.experiments import Home, contents, refused, run
from tests.explorers import asked, grid, hill, scene, served

pytest.importorskip("starlette", reason=f"needs starlette: {hint('explore')}")
pytest.importorskip("uvicorn", reason=f"needs uvicorn: {hint('explore')}")


class Sent(NamedTuple):
    """What a server has sent."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client(NamedTuple):
    """What asks a server, under whatever name."""

    port: int

    @property
    def here(self) -> str:
        """The origin of its pages."""
        return f"http://127.0.0.1:{self.port}"

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Sent:
        """One request; PORT in a header is that of the server."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            sent = {name: value.replace("PORT", str(self.port)) for name, value in headers.items()}
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Sent(response.status, {k.lower(): x for k, x in response.getheaders()}, response.read())


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with served(scene()) as port:
        yield Client(port)


HERE = "http://127.0.0.1:PORT"
JSON = {"content-type": "application/json"}


def test_the_page_its_module_and_its_style_are_sent_and_nothing_else(client: Client) -> None:
    for name in FILES:
        sent = client.send("GET", f"/secret/{name}", {})
        assert sent.status == 200
        assert sent.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in sent.headers["content-security-policy"]
    assert b"explorer.js" in client.send("GET", "/secret/", {}).body
    for name in ("session.py", "..%2Ferrors.py", "../errors.py", "%2Fetc%2Fpasswd"):
        assert client.send("GET", f"/secret/{name}", {}).status == 404


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/wrong/", {}),
        ("/wrong/explorer.js", {}),
        ("/secret/", {"host": "evil.example:PORT"}),
        ("/secret/", {"host": "127.0.0.1.evil.example"}),
        ("/secret/", {"host": "[1"}),
        ("/secret/", {"origin": "http://evil.example"}),
        ("/secret/explorer.js", {"origin": "null"}),
    ],
)
def test_without_the_token_and_from_elsewhere_nothing_is_sent(
    client: Client, path: str, headers: dict[str, str]
) -> None:
    assert client.send("GET", path, headers).status == 403


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/secret/ask", {"origin": HERE}, 200),
        ("/secret/ask", {"origin": "http://localhost:PORT", "host": "localhost:PORT"}, 200),
        ("/wrong/ask", {"origin": HERE}, 403),
        ("/secret/ask", {}, 403),
        ("/secret/ask", {"origin": "http://127.0.0.1:9999"}, 403),
        ("/secret/ask", {"origin": "http://evil.example", "host": "evil.example"}, 403),
        ("/secret/ask", {"origin": HERE, "content-type": "text/plain"}, 403),
    ],
)
def test_only_the_page_may_ask(client: Client, path: str, headers: dict[str, str], status: int) -> None:
    body = json.dumps(asked("look", row=0)).encode()
    assert client.send("POST", path, JSON | headers, body).status == status


def test_what_is_no_request_is_refused(client: Client) -> None:
    headers = JSON | {"origin": HERE}
    assert client.send("POST", "/secret/ask", headers, b"{").status == 400
    assert client.send("POST", "/secret/ask", headers, b" " * 20_000).status == 413


def test_a_browser_that_goes_away_leaves_the_server_answering(client: Client) -> None:
    body = json.dumps(asked("follow", stage="final", ends=[[-1, 0], [1, 0.5]])).encode()
    head = f"POST /secret/ask HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nOrigin: {client.here}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", client.port)) as gone:
            gone.sendall(head.encode() + body)
    answered = client.send("POST", "/secret/ask", JSON | {"origin": HERE}, body)
    assert answered.status == 200
    assert b'"converged":true' in answered.body


def test_a_port_in_use_is_said_or_the_next_one_is_taken() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1, port {port} .*leave --port out"):
            listen("127.0.0.1", port)
    with contextlib.suppress(InputError), listen("127.0.0.1", PORT), listen("127.0.0.1", None) as next_:
        assert next_.getsockname()[1] > PORT


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InputError, match=r"cannot listen on 192\.0\.2\.1, port 8765"):
        listen("192.0.2.1", 8765)


def test_a_run_is_explored_and_left_as_it_was(small: Home) -> None:
    before = contents(small.folder)
    session = Session(scene_of_run(small.run))
    shown = session.answer(asked("scene"))
    assert (shown.fields["title"], shown.fields["d"], shown.fields["pairs"]) == ("small", 2, 3)
    assert shown.fields["geometries"][:1] == ["euclidean"]
    assert "fisher_rao" in shown.fields["geometries"]
    choices = {"geometry": "fisher_rao", "solver": "plain"}
    reply = session.answer(asked("follow", stage="resting", ends=shown.fields["ends"], **choices))
    assert reply.fields["length"] > 0
    assert reply.arrays["geodesic"].shape == (11, 8, 8)
    looked = session.answer(asked("look", row=0))
    assert looked.fields["data"]
    assert looked.arrays["picture"].shape == (1, 8, 8)
    assert contents(small.folder) == before


def test_settings_on_the_command_line_come_first(small: Home) -> None:
    assert next(iter(scene_of_run(small.run, overrides=("geodesic.geometry=density",)).geometries)) == "density"


@pytest.mark.slow
def test_a_decoder_of_the_users_without_data_and_encoder_is_explored_over_its_prior(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("import torch\n\ndef decoder():\n    return lambda z: z.sin()\n")
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nmodel: {import: 'mine:decoder', latent_size: 3}\npairs: {kind: random}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "geodesics.yaml").write_text((tmp_path / "mine.yaml").read_text())
    found = scene_of_run(tmp_path)
    assert found.points.shape == (1000, 3)
    assert found.pairs is None
    assert found.labels is None
    session = Session(found)
    ends = session.answer(asked("scene")).fields["ends"]
    assert session.answer(asked("follow", stage="final", ends=ends, geometry="euclidean")).arrays["path"].shape == (
        65,
        2,
    )


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        ({}, 1, "so it is no run; `geodesic runs` lists those that there are"),
        ({"notes.txt": "mine"}, 1, "so it is no run"),
        ({"config.yaml": "a: [1"}, 2, "not valid YAML"),
        ({"config.yaml": "name: x\nmodel: 3\n"}, 2, "config.yaml"),
        ({"config.yaml": "name: x\ndata: {kind: digits}\n"}, 1, "holds no weights yet"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, files: dict[str, str], status: int, words: str) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    refused(run("explore", folder, "--no-browser"), status, words)
    assert contents(folder) == {name: text.encode() for name, text in files.items()}


def test_broken_weights_are_said(runs: Path) -> None:
    (runs / "small" / "model.safetensors").write_bytes(b"no weights")
    refused(run("explore", runs / "small", "--no-browser"), 1, "model.safetensors")


@pytest.mark.slow
def test_the_command_prints_an_address_and_ends_at_once_at_ctrl_c(small: Home) -> None:
    command = [sys.executable, "-m", "geodesic", "explore", str(small.run), "--port", "0", "--no-browser"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "300"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/[\w-]{20,}/; Ctrl-C ends it", line)
        assert found, line + process.stderr.read()
        with socket.create_connection(("127.0.0.1", int(found[1]))):  # a browser that keeps its connection
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=5)
    assert (process.returncode, out, err) == (0, "", "")


def test_the_widget_answers_what_its_views_ask() -> None:
    pytest.importorskip("anywidget", reason=f"needs anywidget: {hint('explore')}")
    widget = geodesic.explore(geodesic.PullbackManifold(hill), grid())
    told, done = [], threading.Event()

    def tell(header: dict[str, Any], buffers: list[bytes]) -> None:
        told.append((header, buffers))
        done.set()

    widget.send = tell
    widget._hear(widget, asked("follow", stage="final", ends=[[-1, 0], [1, 0.5]], number=7), [])
    assert done.wait(20)
    ((header, buffers),) = told
    assert (header["number"], header["converged"]) == (7, True)
    assert [len(buffer) for buffer in buffers][:1] == [65 * 2 * 4]
    assert header["arrays"][0] == ["path", "float32", [65, 2]]
    assert "export default" in widget._esm
