"""Fetching pictures: what comes, what is refused, and what a second run does."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from picture_server import Server, picture, serving

from dataset_prep.cli import main
from dataset_prep.images.client import FetchError, FetchLimits, PictureClient, is_public
from dataset_prep.images.fetch import ImageOptions, fetch_images
from dataset_prep.images.files import picture_stem
from recbole_mmm4rec.encoders.pictures import check_picture, read_picture


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def write_items(out: Path, images: dict[str, str], name: str = "shop") -> None:
    (out / name).mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{item}\ta {item}\t{image}\n" for item, image in images.items())
    (out / name / f"{name}.item").write_text("item_id:token\ttext:token_seq\timage:token\n" + lines)


def fetch(out: Path, folder: Path | None = None, max_pixels: int = 1_000_000, **limits: Any) -> str:
    chosen = FetchLimits(
        **{"allow_private": True, "backoff": 0.01, "timeout": 2.0, "retries": 2, "max_bytes": 200_000, **limits}
    )
    return fetch_images("shop", out, ImageOptions(folder, 4, max_pixels, chosen))


def reasons(out: Path) -> dict[str, str]:
    lines = (out / "shop/images.report.jsonl").read_text().splitlines()
    assert [json.loads(line)["item"] for line in lines] == sorted(json.loads(line)["item"] for line in lines)
    return {json.loads(line)["item"]: json.loads(line)["reason"] for line in lines}


def names(out: Path) -> list[str]:
    return sorted(file.name for file in (out / "shop/images").iterdir())


def test_pictures_are_named_by_the_items_token_and_by_their_content(tmp_path: Path, server: Server) -> None:
    write_items(tmp_path, {"../../evil": f"{server.url}/ok/a.exe", "b/c": f"{server.url}/ok/b.jpg", "none": ""})
    said = fetch(tmp_path)
    assert "2 of 3 items have a picture, 2 of them new" in said
    stems = [hashlib.sha256(token.encode()).hexdigest() for token in ("../../evil", "b/c")]
    assert names(tmp_path) == sorted([f"{stems[0]}.png", f"{stems[1]}.jpg"])
    assert reasons(tmp_path) == {"none": "no image in the .item file"}
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_dir()) == ["images", "shop"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/gone", "HTTP 404"),
        ("/html.gif", "no picture but an HTML or XML page"),
        ("/bomb.png", "more than 1,000,000 pixels"),
        ("/large", "more than 200,000 bytes"),
        ("/endless", "more than 200,000 bytes"),
        ("/empty", "empty file"),
        ("/loop", "more than 5 redirects"),
        ("/to/ftp://127.0.0.1/x", "scheme 'ftp': only http and https are fetched"),
        ("/to/http://%5Bbad", "redirected to no URL: http://[bad"),
    ],
)
def test_what_is_no_picture_is_asked_for_once_and_never_again(
    tmp_path: Path, server: Server, path: str, reason: str
) -> None:
    write_items(tmp_path, {"a": server.url + path})
    server.asked.clear()
    for _ in range(2):
        fetch(tmp_path)
        assert reasons(tmp_path) == {"a": reason}
        assert names(tmp_path) == []
    assert server.asked[path] == (6 if path == "/loop" else 1)


def test_a_picture_that_is_cut_off_is_refused(tmp_path: Path, server: Server) -> None:
    write_items(tmp_path, {"a": f"{server.url}/cut.jpg"})
    fetch(tmp_path)
    assert reasons(tmp_path)["a"].startswith("damaged JPEG (image file is truncated")


def test_a_refused_connection_is_told_as_one(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and listens to nobody
        write_items(tmp_path, {"a": f"http://127.0.0.1:{closed.getsockname()[1]}/a.png"})
        said = fetch(tmp_path, timeout=60.0)
    assert reasons(tmp_path) == {"a": "no connection"}
    assert "1 of these may come with another run" in said


@pytest.mark.parametrize(("path", "asked"), [("/flaky", 2), ("/busy", 2), ("/ok/x", 1), ("/to//ok/x", 1)])
def test_failures_that_pass_are_tried_again(tmp_path: Path, server: Server, path: str, asked: int) -> None:
    server.asked.clear()
    write_items(tmp_path, {"a": server.url + path})
    fetch(tmp_path)
    assert (reasons(tmp_path), server.asked[path]) == ({}, asked)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/slow", "no end within 0.3 s"),
        ("/headers", "no end within 0.3 s"),
        ("/silent", "no end within 0.3 s"),
        ("/short", "broken off (ProtocolError)"),
    ],
)
def test_a_server_that_does_not_finish_is_left(tmp_path: Path, server: Server, path: str, reason: str) -> None:
    server.asked.clear()
    write_items(tmp_path, {"a": server.url + path})
    fetch(tmp_path, timeout=0.3, retries=1)
    assert (reasons(tmp_path)["a"].split("; ")[0], server.asked[path]) == (reason, 2)


def test_headers_that_are_none_are_no_traceback(
    tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_items(tmp_path, {"a": server.url + "/odd"})
    fetch(tmp_path)
    assert reasons(tmp_path) == {}
    assert "Traceback" not in capfd.readouterr().err
    assert caplog.records == []


def test_waiting_for_its_turn_is_no_time_of_the_server(tmp_path: Path, server: Server) -> None:
    write_items(tmp_path, {str(number): f"{server.url}/ok/{number}" for number in range(8)})
    assert "8 of 8 items have a picture" in fetch(tmp_path, timeout=0.4, retries=0, rate=10)


def test_a_client_that_is_stopped_waits_for_nobody(server: Server) -> None:
    client = PictureClient(FetchLimits(retries=5, timeout=60, allow_private=True), 1)
    begin = time.monotonic()
    threading.Timer(0.2, client.stop).start()
    with pytest.raises(FetchError):
        client.get(server.url + "/silent")
    assert time.monotonic() - begin < 10


def test_a_second_run_fetches_what_is_missing_or_failed_in_passing(tmp_path: Path, server: Server) -> None:
    images = {"a": "/ok/1", "b": "/ok/2", "c": "/broken", "d": "/gone"}
    write_items(tmp_path, {item: server.url + path for item, path in images.items()})
    server.broken.add("/broken")
    fetch(tmp_path, retries=0)
    assert reasons(tmp_path) == {"c": "HTTP 503", "d": "HTTP 404"}
    server.broken.clear()
    (tmp_path / "shop/images" / f"{picture_stem('b')}.png").unlink()
    server.asked.clear()
    fetch(tmp_path, retries=0)
    assert set(server.asked) == {"/ok/2", "/broken"}
    assert set(reasons(tmp_path)) == {"c", "d"}  # the path is unknown to the server once it is mended
    write_items(tmp_path, {"d": f"{server.url}/ok/new"})
    assert "1 of 1 items have a picture, 1 of them new" in fetch(tmp_path)


def test_the_next_url_is_tried_when_the_largest_fails(tmp_path: Path, server: Server) -> None:
    write_items(tmp_path, {"a": f"{server.url}/gone {server.url}/ok/small"})
    fetch(tmp_path)
    assert (reasons(tmp_path), len(names(tmp_path))) == ({}, 1)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("{server}/ok/x", "127.0.0.1 is at 127.0.0.1, no public address"),
        ("http://localhost:1/x", "no public address"),
        ("http://[::ffff:127.0.0.1]/x", "no public address"),
        ("http://169.254.169.254/latest/meta-data", "no public address"),
        ("http://2130706433/x", "127.0.0.1, no public address"),
        ("file:///etc/passwd", "scheme 'file'"),
        ("http://user:secret@example.com/x", "without a password"),
        ("http://", "a URL with a host"),
    ],
)
def test_private_addresses_are_refused(tmp_path: Path, server: Server, url: str, said: str) -> None:
    server.asked.clear()
    write_items(tmp_path, {"a": url.format(server=server.url)})
    fetch(tmp_path, allow_private=False)
    assert said in reasons(tmp_path)["a"]
    assert not server.asked


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/x", "http://169.254.169.254/x", "http://[::1]/x"])
def test_every_redirect_is_checked_and_the_checked_address_is_the_one_connected_to(
    server: Server, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """``shop.example`` resolves to a public address first; what it resolves to later is never asked for."""
    port = server.server_address[1]
    answers = {"shop.example": "93.184.216.34"}
    resolved: list[str] = []
    connected: list[str] = []
    real_lookup, real_connect = socket.getaddrinfo, urllib3.util.connection.create_connection

    def lookup(host: str, *rest: Any, **more: Any) -> Any:
        resolved.append(host)
        return real_lookup(answers.get(host, host), *rest, **more)

    def connect(address: tuple[str, int], *rest: Any, **more: Any) -> Any:
        connected.append(address[0])
        return real_connect(("127.0.0.1", port), *rest, **more)

    monkeypatch.setattr("dataset_prep.images.client.socket.getaddrinfo", lookup)
    monkeypatch.setattr("urllib3.connection.connection.create_connection", connect)
    client = PictureClient(FetchLimits(retries=0, timeout=2), 1)
    assert check_picture(client.get("http://shop.example/ok/x"), 10_000) == "png"
    answers["shop.example"] = "127.0.0.1"
    with pytest.raises(FetchError, match="no public address"):
        client.get(f"http://shop.example/to/{target}")
    assert connected == ["93.184.216.34"] * len(connected)
    assert resolved.count("shop.example") == 1


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("64:ff9b::808:808", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_files_come_from_the_given_folder_and_from_nowhere_else(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (tmp_path / "secret.png").write_bytes(picture())
    (pictures / "a b.webp").write_bytes(picture(kind="WEBP"))
    (pictures / "link.png").symlink_to(tmp_path / "secret.png")
    (pictures / "text.png").write_text("hello")
    os.mkfifo(pictures / "pipe.png")
    (pictures / "itself.png").symlink_to(pictures / "itself.png")
    sources = {
        "a": "a b.webp",
        "b": "../secret.png",
        "c": str(tmp_path / "secret.png"),
        "d": "link.png",
        "e": "text.png",
        "f": "no.png",
        "g": "pipe.png",
        "h": str(pictures / "a b.webp"),
        "i": "x" * 5000,
        "j": "itself.png",
    }
    write_items(tmp_path, sources)
    fetch(tmp_path, pictures)
    said = reasons(tmp_path)
    assert names(tmp_path) == sorted(f"{picture_stem(item)}.webp" for item in "ah")
    for item in "bcd":
        assert "lies outside of the --images folder" in said[item]
    assert said["e"] == "no known picture format"
    assert said["f"] == "no file 'no.png' in the --images folder"
    assert said["g"] == "no file 'pipe.png' in the --images folder"
    assert "cannot be read" in said["i"]
    assert said["j"] == "'itself.png' cannot be read (RuntimeError)" or said["j"].startswith("no file 'itself.png'")
    (pictures / "no.png").write_bytes(picture())
    fetch(tmp_path, pictures)
    assert "f" not in reasons(tmp_path)


def test_no_more_at_once_than_allowed(tmp_path: Path, server: Server) -> None:
    write_items(tmp_path, {f"i{n}": f"{server.url}/pause/{n}" for n in range(12)})
    server.most_at_once = 0
    fetch(tmp_path)
    assert 1 < server.most_at_once <= 4
    assert len(names(tmp_path)) == 12


def test_no_more_a_second_than_allowed(tmp_path: Path, server: Server) -> None:
    write_items(tmp_path, {f"i{n}": f"{server.url}/ok/{n}" for n in range(8)})
    begin = time.monotonic()
    fetch(tmp_path, rate=20.0)
    assert time.monotonic() - begin > 7 / 20
    assert len(names(tmp_path)) == 8


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("images none", "none.item: no such file"),
        ("images bare", "no column 'image' among item_id, text"),
        ("images shop --rate fast", "--rate fast: a number of requests a second"),
        ("images shop --rate 0", "--rate 0.0: must be more than 0"),
        ("images shop --max-bytes 20X", "--max-bytes 20X: a whole number is wanted"),
        ("images shop --max-pixels 1G", "--max-pixels 1000000000: must be 1 to"),
        ("images shop --concurrency 0", "--concurrency 0: must be 1 to 1024"),
        ("images shop --timeout nan", "--timeout nan: must be seconds"),
        ("images shop --images nowhere", "--images nowhere: no such folder"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    write_items(tmp_path, {"a": ""})
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/bare.item").write_text("item_id:token\ttext:token_seq\n")
    assert main([*line.split(), "--out", str(tmp_path)]) == 2
    captured = capsys.readouterr().err
    assert captured.startswith("error: ")
    assert said in captured
    assert captured.count("\n") == 1


def test_killed_at_any_moment_the_same_command_ends_with_the_same_files(tmp_path: Path, server: Server) -> None:
    images = {f"i{n}": f"{server.url}/pause/{n % 9}" for n in range(60)} | {"x": f"{server.url}/gone", "y": ""}
    for name in ("whole", "killed"):
        write_items(tmp_path / name, images)

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dataset_prep", "images", "shop", "--out", str(tmp_path / name)]
        command += ["--allow-private-addresses", "--concurrency", "3"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(command, env=environment, stdout=-3, stderr=-3)

    assert start("whole").wait() == 0
    folder = tmp_path / "killed/shop/images"
    for kill_at in (1, 20, 45):
        run = start("killed")
        while run.poll() is None and (not folder.is_dir() or len(list(folder.iterdir())) < kill_at):
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
    assert start("killed").wait() == 0
    contents = [
        {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
        for root in (tmp_path / "whole", tmp_path / "killed")
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 62


def test_a_link_to_itself_among_the_pictures_is_none(tmp_path: Path, server: Server) -> None:
    write_items(tmp_path, {"a": f"{server.url}/ok/a", "b": ""})
    folder = tmp_path / "shop/images"
    folder.mkdir()
    for item in "ab":
        link = folder / f"{picture_stem(item)}.png"
        link.symlink_to(link)
    assert "1 of 2 items have a picture, 1 of them new" in fetch(tmp_path)
    assert reasons(tmp_path) == {"b": "no image in the .item file"}
    assert read_picture(folder / f"{picture_stem('a')}.png").size == (40, 30)
