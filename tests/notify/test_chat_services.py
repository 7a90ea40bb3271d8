"""Services: Apprise sends to a real HTTP server, and tokens stay out of command lines and messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from fanout.model.errors import UsageError
from fanout.notify.chat_services import is_worth_sending, list_entries, read_addresses, send_to_services
from tests.notify.test_hook import build_message
from tests.processes import join_threads

TOKEN = "s3cr3t-token"


@contextmanager
def serve_http(status: int = 200) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Serve on loopback; yield the port, and the list of bodies and headers that arrive."""
    arrived: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived.append({"path": self.path, "body": json.loads(body)})
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], arrived
    finally:
        server.shutdown()
        server.server_close()
        join_threads(thread)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose notify.toml has the entry ``phone``."""
    folder = tmp_path / ".config" / "fanout"
    folder.mkdir(parents=True)
    path = folder / "notify.toml"
    path.write_text(f'[phone]\nurl = "json://127.0.0.1:1/{TOKEN}"\n')
    path.chmod(0o600)
    return {"HOME": str(tmp_path)}


@pytest.mark.process
def test_message_reaches_an_http_server() -> None:
    message = build_message(seconds=900.0)
    with serve_http() as (port, arrived):
        assert send_to_services((f"json://127.0.0.1:{port}/{TOKEN}",), message.title, message.text) == ""
    (request,) = arrived
    assert request["path"].startswith(f"/{TOKEN}")
    assert request["body"]["title"] == "sweep FAILED on 2 hosts"
    assert "rank 3 on gpu02: CUDA out of memory\nstep 7 · loss 2.5 · after 15 min" in request["body"]["message"]


@pytest.mark.process
def test_refusing_server_is_named_without_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_http(500) as (port, arrived):
        why = send_to_services((f"json://127.0.0.1:{port}/{TOKEN}",), "title", "text")
    assert "not accepted in 3 tries" in why
    assert TOKEN not in why
    assert len(arrived) == 3


@pytest.mark.process
def test_unknown_form_of_address_is_named_without_its_token() -> None:
    why = send_to_services((f"carrier-pigeon://{TOKEN}",), "title", "text")
    assert why == "carrier-pigeon: Apprise does not know this form of address"


def test_entry_gives_its_address(environ: dict[str, str]) -> None:
    assert read_addresses("phone", environ) == (f"json://127.0.0.1:1/{TOKEN}",)
    assert list_entries({**environ, "FANOUT_NOTIFY_URL": "x://"}) == ["phone", "env"]


def test_file_that_others_can_read_is_refused(environ: dict[str, str]) -> None:
    path = Path(environ["HOME"]) / ".config/fanout/notify.toml"
    path.chmod(0o640)
    with pytest.raises(UsageError, match="others can read it") as refused:
        read_addresses("phone", environ)
    assert refused.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize(
    ("text", "name", "why"),
    [
        ('[phone]\nurl = "x://"\n', "phnoe", "has no such entry; it has phone"),
        ("[phone]\n", "phone", "entry phone has no url"),
        ("phone = 1\n", "phone", "entry phone has no url"),
        ("[phone\n", "phone", "notify.toml: "),
    ],
)
def test_mistake_in_the_file_is_named(text: str, name: str, why: str, environ: dict[str, str]) -> None:
    (Path(environ["HOME"]) / ".config/fanout/notify.toml").write_text(text)
    with pytest.raises(UsageError, match=why):
        read_addresses(name, environ)


def test_short_runs_and_starts_are_not_worth_a_message() -> None:
    assert not is_worth_sending(build_message(seconds=200.0))
    assert not is_worth_sending(build_message(event="started", seconds=900.0))
    assert is_worth_sending(build_message(event="hang", seconds=900.0))
