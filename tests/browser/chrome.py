"""A Chromium without a screen, spoken to over its debugging pipe: enough to load a page, look at it and use it."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from typing import Any

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
SECONDS = 60.0


def find_browser() -> str:
    """Return the browser's program. Fails if this machine has none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found, "no Chromium is installed (tests/run_tiers browser installs it)"
    return found


class Chrome:
    """One tab. ``messages`` are the events that came so far, of every kind."""

    def __init__(self, program: str) -> None:
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        down_read, self._write = os.pipe()
        self._read, up_write = os.pipe()

        def wire() -> None:
            """Connect the pipes: Chrome reads commands on descriptor 3 and writes answers on 4."""
            reader, writer = os.dup(down_read), os.dup(up_write)
            os.dup2(reader, 3)
            os.dup2(writer, 4)

        flags = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--no-first-run",
            "--disable-dev-shm-usage",
            f"--user-data-dir={self._home.name}",
        )
        self._child = subprocess.Popen(
            [program, *flags, "about:blank"],
            preexec_fn=wire,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(down_read)
        os.close(up_write)
        self._rest = b""
        self._number = 0
        self._session = ""
        self.messages: list[dict[str, Any]] = []
        target = self.call_method("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call_method("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call_method(f"{domain}.enable")

    def close(self) -> None:
        self._session = ""
        try:
            self.call_method("Browser.close")
        except (OSError, EOFError):
            self._child.kill()
        self._child.wait(timeout=SECONDS)
        os.close(self._write)
        os.close(self._read)
        self._home.cleanup()

    def call_method(self, method: str, **parameters: Any) -> Any:
        """Send a command of the protocol; return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read_message()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.messages.append(answer)

    def load_page(self, url: str) -> None:
        """Go there, and wait until all of it is there and its script has run."""
        self.messages.clear()
        self.call_method("Page.navigate", url=url)
        while not any(message["method"] == "Page.loadEventFired" for message in self.messages):
            self.messages.append(self._read_message())

    def wait_for_load(self, *, expected: bool = True) -> None:
        """Wait until the page has loaded itself again; unless ``expected``, until three seconds passed without that."""
        until = time.monotonic() + (SECONDS if expected else 3.0)
        self.messages.clear()
        while not any(message["method"] == "Page.loadEventFired" for message in self.messages):
            try:
                self.messages.append(self._read_message(until))
            except TimeoutError:
                assert not expected, "the page does not load itself again"
                return
        assert expected, "the page loads itself again"

    def evaluate_expression(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        result = self.call_method("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def emulate_screen(self, *, scheme: str = "light", width: int = 1400, height: int = 1000) -> None:
        """Dark or light, and how large the window is."""
        self.call_method("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call_method(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def save_screenshot(self, path: str) -> None:
        data = self.call_method("Page.captureScreenshot", captureBeyondViewport=False)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    @property
    def complaints(self) -> list[str]:
        """Errors of scripts, and what the page's policy forbade."""
        thrown = [str(message["params"]) for message in self.messages if message["method"] == "Runtime.exceptionThrown"]
        logged = [message["params"]["entry"] for message in self.messages if message["method"] == "Log.entryAdded"]
        return thrown + [entry["text"] for entry in logged if entry["level"] == "error"]

    @property
    def requests(self) -> list[str]:
        """Return every address that the page requested."""
        sent = [message["params"] for message in self.messages if message["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent]

    def _read_message(self, until: float | None = None) -> dict[str, Any]:
        until = time.monotonic() + SECONDS if until is None else until
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser says nothing")
            data = os.read(self._read, 1 << 20)
            if not data:
                raise EOFError("the browser has gone")
            self._rest += data
        message, self._rest = self._rest.split(b"\0", 1)
        found: dict[str, Any] = json.loads(message)
        return found
