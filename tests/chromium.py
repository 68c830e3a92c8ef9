"""A real browser without a window, driven by the DevTools protocol through a pipe.

No package and no socket: Chromium reads JSON commands from descriptor 3 and writes answers and events to 4
(`--remote-debugging-pipe`), each ended by a zero byte. https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
_KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, " ": 32, "Escape": 27, "Tab": 9}


def find() -> str | None:
    """Return the path of an installed Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page in one browser; a context manager.

    Attributes:
        complaints: console errors and uncaught exceptions of the page so far.
        requests: addresses of everything the page asked for, its own file left out.
    """

    def __init__(self, profile: Path, *, seconds: float = 60):
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._seconds = seconds
        self._last = 0
        self._pending = b""
        self._events: list[dict[str, Any]] = []
        # Above 10, so that the shell's 3<&N 4>&M cannot overwrite one with the other.
        commands, self._to = (_raise(fd) for fd in os.pipe())
        self._from, answers = (_raise(fd) for fd in os.pipe())
        command = ["bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}', "bash", find(), *_FLAGS]
        with (profile.parent / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, f"--user-data-dir={profile}"], pass_fds=(commands, answers), stdout=log, stderr=log
            )
        os.close(commands)
        os.close(answers)
        try:
            target = self._send("Target.createTarget", url="about:blank")["targetId"]
            self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(self._seconds)
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the page's session."""
        return self._send(method, self._session, **params)

    def window(self, width: int, height: int, *, scheme: str = "light", touch: bool = False) -> None:
        """Give the window a size, a colour scheme, and a telephone's screen or not."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, page: Path, *, scripts: bool = True) -> None:
        """Open a file and wait until it is loaded and drawn."""
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._events.clear()
        self.call("Page.navigate", url=page.as_uri())
        self._until(lambda: any(event["method"] == "Page.loadEventFired" for event in self._events))
        if scripts:
            self.settle()

    def settle(self) -> None:
        """Wait until two frames have been drawn."""
        self.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def js(self, expression: str) -> Any:
        """Evaluate an expression in the page, await it if it is a promise, and return its JSON value."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def place(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """Scroll an element into view and return a position in it, in pixels of the window."""
        box = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.left, r.top, r.width, r.height] })()"
        )
        return box[0] + x * box[2], box[1] + y * box[3]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Send `mouseMoved`, `mousePressed` or `mouseReleased`."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector: str) -> None:
        """Click on the middle of an element, as a hand does."""
        x, y = self.place(selector)
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        self.mouse("mouseReleased", x, y, button="left", clickCount=1)
        self.settle()

    def drag(self, selector: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one place in an element to another, both as shares of its size."""
        x, y = self.place(selector, *start)
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        x, y = self.place(selector, *end)
        self.mouse("mouseMoved", x, y, button="left", buttons=1)
        self.mouse("mouseReleased", x, y, button="left", clickCount=1)
        self.settle()

    def key(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=_KEYS[key])
        self.settle()

    def choose(self, selector: str, label: str) -> None:
        """Choose the option of a select that has this text."""
        self.js(
            f"(() => {{ const s = document.querySelector({json.dumps(selector)});"
            f"s.value = [...s.options].find((o) => o.text === {json.dumps(label)}).value;"
            "s.dispatchEvent(new Event('change', {bubbles: true})) })()"
        )
        self.settle()

    def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """Write what is in the window, or the whole page, as PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def _send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        answers: list[dict[str, Any]] = []
        self._until(lambda: bool(answers), answers)
        assert "error" not in answers[0], f"{method}: {answers[0]['error']}"
        return answers[0]["result"]

    def _until(self, done, answers: list[dict[str, Any]] | None = None) -> None:
        deadline = time.monotonic() + self._seconds
        while not done():
            left = deadline - time.monotonic()
            assert left > 0, "the browser does not answer"
            if not select.select([self._from], [], [], left)[0]:
                continue
            data = os.read(self._from, 1 << 20)
            assert data, "the browser has ended"
            *messages, self._pending = (self._pending + data).split(b"\0")
            for message in map(json.loads, messages):
                if "method" in message:
                    self._note(message)
                elif answers is not None and message["id"] == self._last:
                    answers.append(message)

    def _note(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        params = event["params"]
        if event["method"] in ("Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
            self.complaints.append(str(params))
        elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(params["args"]))
        elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent" and params.get("type") != "Document":
            self.requests.append(params["request"]["url"][:80])


def _raise(fd: int) -> int:
    """Return a duplicate of a descriptor that is 10 or more, and close the original."""
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return high
