"""A headless Chromium for tests, driven over its DevTools protocol.

aiohttp, which the dashboard's server brings, speaks the websocket; nothing else is needed. The
browser resolves no name, so a page that asks for something from outside cannot get it, and the test
sees that it asked (`requested`). What the page's terminal was sent is read by pyte, as in
`tests.tui.terminal`; `screenshot` shows what the browser made of it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pyte

from tests.tui.terminal import without_private_answers

DEADLINE_S = 60.0
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "KVCTL_TEST_BROWSER"
"""Names the browser to use; where it is set, its absence is an error and no reason to skip."""
REBOUND = "rebound.example"
"""A name that the browser takes for this machine, as somebody's trick would have it."""
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1, MAP * ~NOTFOUND, "
    "EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--remote-debugging-port=0",
    "--window-size=1280,800",
)


def find_browser() -> str | None:
    """A Chromium on the path, or the one the environment names."""
    return os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser of its own; `browse` starts and ends it."""

    def __init__(self, program: str, directory: Path) -> None:
        """`directory` is new and empty: the browser's profile."""
        self.requested: list[str] = []
        """Addresses the page asked for, websockets too."""
        self.failed: list[str] = []
        """Those of them that could not be had, with the reason."""
        self.console: list[str] = []
        """What the page complained about."""
        self.columns, self.rows = 0, 0
        """The size of the page's terminal, as it told the server."""
        self._program = program
        self._directory = directory
        self._session = aiohttp.ClientSession()
        self._process: subprocess.Popen[bytes] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._urls: dict[str, str] = {}
        self._screen: pyte.Screen | None = None
        self._stream: pyte.ByteStream | None = None

    async def start(self) -> None:
        """Start the browser and begin to listen to its page. `end` is owed even if this fails."""
        self._process = subprocess.Popen(
            [self._program, *_FLAGS, f"--user-data-dir={self._directory}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._socket = await self._session.ws_connect(await self._address(), max_msg_size=0)
        self._reading = asyncio.create_task(self._read())
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.call(f"{domain}.enable")

    async def end(self) -> None:
        """Kill what was started."""
        if self._reading is not None:
            self._reading.cancel()
        await self._session.close()
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(DEADLINE_S)

    async def _address(self) -> str:
        """The address of the first page's protocol, once the browser says where it listens."""
        said = self._directory / "DevToolsActivePort"
        async with asyncio.timeout(DEADLINE_S):
            assert self._process is not None
            while not (said.exists() and "\n" in said.read_text()):
                assert self._process.poll() is None, "the browser has ended"
                await asyncio.sleep(0.05)
            port = said.read_text().split()[0]
            while True:
                async with self._session.get(f"http://127.0.0.1:{port}/json/list") as response:
                    pages = [one for one in await response.json() if one["type"] == "page"]
                if pages:
                    return str(pages[0]["webSocketDebuggerUrl"])
                await asyncio.sleep(0.05)

    # ------------------------------------------------------------ the protocol

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        number = next(self._ids)
        answering = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(DEADLINE_S):
            answer = await answering
        assert "error" not in answer, answer
        return dict(answer["result"])

    async def _read(self) -> None:
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            else:
                self._on_event(said["method"], said["params"])

    def _on_event(self, method: str, said: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self._urls[said["requestId"]] = said["request"]["url"]
            self.requested.append(said["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requested.append(said["url"])
        elif method == "Network.loadingFailed":
            url = self._urls.get(said["requestId"], "?")
            self.failed.append(f"{url} {said['errorText']} {said.get('blockedReason', '')}")
        elif method == "Network.webSocketFrameSent":
            self._on_sent(said["response"]["payloadData"])
        elif method == "Network.webSocketFrameReceived":
            self._on_received(said["response"])
        elif method == "Log.entryAdded":
            self.console.append(said["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.console.append(said["exceptionDetails"]["text"])

    def _on_sent(self, payload: str) -> None:
        """The page tells the server how large its terminal is: `["resize", {...}]`."""
        if payload.startswith('["resize"'):
            size = json.loads(payload)[1]
            self.columns, self.rows = size["width"], size["height"]
            self._screen = pyte.Screen(self.columns, self.rows)
            self._stream = pyte.ByteStream(self._screen)

    def _on_received(self, frame: dict[str, Any]) -> None:
        """What the application writes comes in binary frames."""
        if frame["opcode"] == 2 and self._stream is not None:
            self._stream.feed(without_private_answers(base64.b64decode(frame["payloadData"])))

    # ------------------------------------------------------------ the page

    async def open(self, url: str) -> None:
        """Go to an address."""
        await self.call("Page.navigate", url=url)

    @property
    def text(self) -> str:
        """What the page's terminal shows."""
        return (
            ""
            if self._screen is None
            else "\n".join(line.rstrip() for line in self._screen.display)
        )

    async def until(self, condition: Callable[[str], object]) -> None:
        """Wait until the terminal's text is so; fails with what it shows then."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition(self.text):
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise AssertionError(f"the page shows\n{self.text}\n{self.console}") from error

    async def press(self, key: str) -> None:
        """Press a key that types itself."""
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def click(self) -> None:
        """Click into the middle of the page, which gives it the keyboard."""
        for kind in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent", type=kind, x=640, y=560, button="left", clickCount=1
            )

    async def until_true(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        async with asyncio.timeout(DEADLINE_S):
            while not await self.evaluate(expression):
                await asyncio.sleep(0.05)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        return answer["result"].get("value")

    async def screenshot(self, path: Path) -> None:
        """Write what the browser shows as a PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))


def browse(
    program: str, directory: Path, scenario: Callable[[Browser], Coroutine[Any, Any, None]]
) -> None:
    """Run a scenario with a browser."""

    async def run() -> None:
        browser = Browser(program, directory)
        try:
            await browser.start()
            await scenario(browser)
        finally:
            await browser.end()

    asyncio.run(run())
