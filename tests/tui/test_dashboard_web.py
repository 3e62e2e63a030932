"""Serving the dashboard to browsers: what may be asked, and what is started."""

from __future__ import annotations

import builtins
import shlex
import socket
from collections.abc import Callable
from typing import Any

import pytest

from kvctl.tui import web


@pytest.mark.parametrize(
    ("host", "origin", "is_own"),
    [
        ("127.0.0.1:8765", None, True),
        ("127.0.0.1:8765", "http://127.0.0.1:8765", True),
        ("localhost:8765", "http://localhost:8765", True),
        ("127.0.0.1:8765", "http://evil.example", False),
        ("127.0.0.1:8765", "https://127.0.0.1:8765", False),
        ("127.0.0.1:8765", "null", False),
        ("rebound.example:8765", None, False),
        ("127.0.0.1:9999", None, False),
        ("", None, False),
    ],
)
def test_only_this_very_page_may_ask(host: str, origin: str | None, is_own: bool) -> None:
    assert web.is_own_request(host, origin, 8765) is is_own


def test_dashboards_behind_a_browser_are_read_only_unless_asked_otherwise() -> None:
    words = shlex.split(
        web.dashboard_command(cluster="demo", replay=None, writable=False, ascii_only=False)
    )
    assert words[1:] == ["-m", "kvctl", "-c", "demo", "dashboard", "--read-only"]
    writable = web.dashboard_command(cluster="demo", replay=None, writable=True, ascii_only=True)
    assert "--read-only" not in writable and writable.endswith("--ascii")


def test_a_file_name_is_one_word_of_the_shell() -> None:
    command = web.dashboard_command(
        cluster="", replay="/a b/$(rm).rec", writable=False, ascii_only=False
    )
    assert shlex.split(command)[-2:] == ["--replay", "/a b/$(rm).rec"]


def test_styles_from_other_servers_are_taken_out_of_the_page() -> None:
    page = (
        '<link rel="stylesheet" href="http://127.0.0.1:8765/static/css/xterm.css" />\n'
        '<link\n  rel="stylesheet"\n  href="https://fonts.example.com/css?family=Mono"\n/>'
    )
    kept = web.without_outside_styles(page)
    assert "xterm.css" in kept and "fonts.example.com" not in kept


def test_without_textual_serve_one_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real_import: Callable[..., Any] = builtins.__import__

    def importing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("textual_serve"):
            raise ImportError(name)
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(web.WebServerError) as caught:
        web.serve("true", port=8765, title="kvctl", tell=print)
    assert "kvctl[web]" in caught.value.hint


def test_a_port_that_is_taken_is_said_before_anything_is_served() -> None:
    pytest.importorskip("textual_serve")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(web.WebServerError) as caught:
            web.serve("true", port=taken.getsockname()[1], title="kvctl", tell=print)
    assert "--port" in caught.value.hint
