"""The dashboard in a real browser: live, read-only unless asked, and closed to everybody else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from aiohttp import web

from kvctl.cluster.facts import DEAD, UP
from kvctl.cluster.local_cluster import Cluster
from tests.tui.browser import DEADLINE_S, REBOUND, Browser, browse, find_browser
from tests.tui.test_dashboard_pty import shows_all_up, states

LOOPBACK = {"127.0.0.1", "localhost"}
SIGNATURE_PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def program() -> str:
    """The browser to use."""
    found = find_browser()
    if found is None:
        pytest.skip("no Chromium is installed here; the dashboard in a browser is not tested")
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes, shared; tests leave them up."""
    with Cluster(nodes=3) as running:
        yield running


class Served:
    """A dashboard that is served."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"
        self.process = process

    def tabs(self) -> list[psutil.Process]:
        """The dashboards behind browser tabs; a node that one of them started is none."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in below if "dashboard" in command_of(one)]


def command_of(process: psutil.Process) -> list[str]:
    """Its command line; empty once it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@contextmanager
def served(cluster: Cluster, *options: str) -> Iterator[Served]:
    """Serve the dashboard of a cluster; ended by ctrl+c, which leaves no process behind."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["-c", cluster.name, "dashboard", "--web", "--port", str(port), *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "kvctl", *arguments],
        env=cluster_environment(cluster),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        assert f"http://127.0.0.1:{port}" in said, said
        server = Served(port, process)
        yield server
        tabs = server.tabs()
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)
        _, left = psutil.wait_procs(tabs, DEADLINE_S)
        assert not left, f"still there: {left}"
    finally:
        process.kill()
        process.wait(DEADLINE_S)
        process.stderr.close()


def cluster_environment(cluster: Cluster) -> dict[str, str]:
    """The environment in which kvctl finds the cluster."""
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return {**kept, "KVCTL_HOME": str(cluster.home)}


def test_a_page_shows_the_live_cluster_and_changes_nothing(
    program: str, cluster: Cluster, tmp_path: Path
) -> None:
    picture = tmp_path / "page.png"

    with served(cluster) as server:

        async def scenario(browser: Browser) -> None:
            await browser.open(server.url)
            await browser.until(shows_all_up)
            assert server.tabs()
            await browser.click()
            await browser.press("k")
            await browser.until(lambda text: "this dashboard is read-only." in text)
            cluster.client().put("from-a-terminal", b"1")
            await browser.until(lambda text: "put from-a-terminal" in text)
            await browser.press("6")
            await browser.until(lambda text: "node_started" in text)
            await browser.press("s")
            await browser.until(lambda text: "in a terminal only" in text)
            await browser.screenshot(picture)
            await browser.open("about:blank")
            await browser.until(lambda _: not server.tabs())
            asked = [urlsplit(one).hostname for one in browser.requested if "://" in one]
            assert asked and set(asked) <= LOOPBACK, browser.requested
            assert {"http", "ws"} <= {urlsplit(one).scheme for one in browser.requested}
            assert browser.failed == []
            assert not [one for one in browser.console if "Security Policy" in one]

        browse(program, tmp_path / "profile", scenario)
    assert picture.read_bytes().startswith(SIGNATURE_PNG)
    assert set(states(cluster).values()) == {UP}


def test_a_page_that_was_asked_to_be_writable_kills_and_revives_a_node(
    program: str, cluster: Cluster, tmp_path: Path
) -> None:
    with served(cluster, "--writable") as server:

        async def scenario(browser: Browser) -> None:
            await browser.open(server.url)
            await browser.until(shows_all_up)
            await browser.click()
            await browser.press("k")
            await browser.until(lambda text: "n1 was killed." in text and "○D down" in text)
            assert states(cluster)["n1"] == DEAD
            await browser.press("u")
            await browser.until(lambda text: "n1 was started." in text and shows_all_up(text))

        browse(program, tmp_path / "profile", scenario)
    assert set(states(cluster).values()) == {UP}, "the node outlives the page and its server"


Page = Callable[[web.Request], Coroutine[Any, Any, web.Response]]

FOREIGN = """<!DOCTYPE html><title>elsewhere</title><iframe src="{url}"></iframe><script>
async function tries() {{
  const opened = await new Promise((resolve) => {{
    const socket = new WebSocket("{url}ws?width=80&height=24".replace("http", "ws"));
    socket.onopen = () => resolve("open"); socket.onerror = () => resolve("refused");
  }});
  const read = await fetch("{url}").then(() => "read", () => "refused");
  return opened + " " + read;
}}
</script>"""


def test_other_pages_and_other_names_for_this_machine_are_refused(
    program: str, cluster: Cluster, tmp_path: Path
) -> None:
    with served(cluster) as server:

        async def scenario(browser: Browser) -> None:
            async def page(request: web.Request) -> web.Response:
                return web.Response(text=FOREIGN.format(url=server.url), content_type="text/html")

            elsewhere = web.Application()
            elsewhere.router.add_get("/", page)
            runner = web.AppRunner(elsewhere)
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                host, port = runner.addresses[0][:2]
                await browser.open(f"http://{host}:{port}/")
                await browser.until_true("document.title == 'elsewhere'")
                assert await browser.evaluate("tries()") == "refused refused"
                await browser.until(
                    lambda _: any("frame-ancestors" in one for one in browser.console)
                )
            finally:
                await runner.cleanup()
            await browser.open(f"http://{REBOUND}:{server.port}/")
            await browser.until_true("document.body.innerText.includes('this machine only')")
            assert not server.tabs(), "nothing was started for any of them"
            await browser.open(f"http://localhost:{server.port}/")
            await browser.until(shows_all_up)

        browse(program, tmp_path / "profile", scenario)
