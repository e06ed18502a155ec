# SPDX-License-Identifier: GPL-3.0-or-later
"""Chromium over the WebDriver protocol, which is JSON over HTTP: what a page looks like, and what it asks for.

with chromium() as browser:
    browser.open(path)
    browser.screen(320, dark=True)
    browser.screenshot(Path("narrow.png"))
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.servers import free_port, wait_until

_ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-color-profile=srgb"]


@dataclass
class Browser:
    session: str  # its address

    def call(self, method: str, path: str, **given: Any) -> Any:
        data = json.dumps(given).encode() if method == "POST" else None
        request = urllib.request.Request(f"{self.session}{path}", data=data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode(errors='replace')[:2000]}") from error

    def devtools(self, command: str, **parameters: Any) -> Any:
        """A command of Chromium's own protocol."""
        return self.call("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def open(self, path: Path) -> None:
        self.call("POST", "/url", url=path.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script of ours returns; the page's own policy does not bind the driver."""
        return self.call("POST", "/execute/sync", script=script, args=list(arguments))

    def screen(self, width: int, *, dark: bool = False, height: int = 1000) -> None:
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        taken = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def pdf(self) -> bytes:
        return base64.b64decode(self.devtools("Page.printToPDF", printBackground=True)["data"])

    def console(self) -> list[str]:
        """What it said since it was asked last: errors, refusals by the page's policy."""
        return [str(entry["message"]) for entry in self.call("POST", "/se/log", type="browser")]

    def requests(self, page: Path) -> list[str]:
        """The addresses that the page asked for since it was asked last; a browser's own start page asks too."""
        events = [json.loads(entry["message"])["message"] for entry in self.call("POST", "/se/log", type="performance")]
        sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
        ours = [event["params"] for event in sent if event["params"].get("documentURL") == page.as_uri()]
        return [one["request"]["url"] for one in ours]

    def accessible(self) -> list[tuple[str, str]]:
        """Role and name of everything that assistive technology is told of."""
        nodes = self.devtools("Accessibility.getFullAXTree")["nodes"]
        return [
            (str(node.get("role", {}).get("value")), str(node.get("name", {}).get("value") or ""))
            for node in nodes
            if not node.get("ignored")
        ]

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.devtools("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16_000), "scale": 1}}


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own; it and its driver are gone afterwards."""
    driver, program = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    assert driver, "chromedriver is missing. Next: install chromium-driver, or run .ci/run packages."
    assert program, "chromium is missing. Next: install chromium, or run .ci/run packages."
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="dbops-chromium-", ignore_cleanup_errors=True) as profile:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([driver, f"--port={port}"], **quiet)  # type: ignore[call-overload]
        address = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: _answers(f"{address}/status"), "chromedriver answers", limit_s=30)
            browser = Browser(address)
            options = {"binary": program, "args": [*_ARGUMENTS, f"--user-data-dir={profile}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
            session = browser.call("POST", "/session", capabilities={"alwaysMatch": wanted})["sessionId"]
            browser.session = f"{address}/session/{session}"
            try:
                yield browser
            finally:
                browser.call("DELETE", "")
        finally:
            process.terminate()
            process.wait(timeout=20)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(json.load(answer)["value"]["ready"])
    except (OSError, ValueError):
        return False
