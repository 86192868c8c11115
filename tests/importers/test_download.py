"""Downloads from a server on this machine: cache, resume, digests and errors."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("pooch")

from elmo_deploy.importers.download import download, is_url
from elmo_runtime.errors import ArtifactError, InputError, WeightsError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves CONTENT at every path; `break_after` cuts the next answer short."""

    def __init__(self) -> None:
        self.ranges, self.break_after, self.takes_ranges = [], None, True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/weights.hdf5"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/missing":
            handler.send_error(404)
            return
        asked = handler.headers.get("Range")
        self.ranges.append(asked)
        start = int(asked[6:-1]) if asked and self.takes_ranges else 0
        if start >= len(CONTENT):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(CONTENT) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.end_headers()
        end, self.break_after = self.break_after, None
        handler.wfile.write(CONTENT[start:end])


@pytest.fixture
def server():
    served = Server()
    thread = threading.Thread(target=served.server.serve_forever)
    thread.start()
    yield served
    served.server.shutdown()
    served.server.server_close()
    thread.join()


def test_a_file_is_downloaded_once(server, tmp_path):
    seen = []
    path = download(server.url, cache=tmp_path, report=lambda *sizes: seen.append(sizes))
    assert path.read_bytes() == CONTENT and path.name.endswith("weights.hdf5")
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert download(server.url, cache=tmp_path, sha256=DIGEST.upper()) == path
    assert server.ranges == [None]


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_an_interrupted_download_continues(server, tmp_path, takes_ranges):
    server.break_after, server.takes_ranges = 300_000, takes_ranges
    with pytest.raises(ArtifactError, match="continues the download") as caught:
        download(server.url, cache=tmp_path)
    assert "\n" not in str(caught.value)
    assert download(server.url, cache=tmp_path, sha256=DIGEST).read_bytes() == CONTENT
    assert len(server.ranges) == 2 and server.ranges[1].startswith("bytes=")


def test_a_partial_file_that_is_too_long_is_replaced(server, tmp_path):
    path = download(server.url, cache=tmp_path)
    path.rename(f"{path}.partial")
    assert download(server.url, cache=tmp_path, sha256=DIGEST).read_bytes() == CONTENT


def test_a_file_of_another_digest_is_not_kept(server, tmp_path):
    with pytest.raises(WeightsError, match="does not have the digest of --sha256"):
        download(server.url, cache=tmp_path, sha256="0" * 64)
    assert not list(tmp_path.iterdir())


def test_errors_of_the_server_are_one_line(server, tmp_path):
    for url in (server.url.replace("weights.hdf5", "missing"), "http://127.0.0.1:1/w?token=x"):
        with pytest.raises(ArtifactError) as caught:
            download(url, cache=tmp_path)
        assert "cannot be downloaded" in str(caught.value)
        assert "\n" not in str(caught.value) and "token=x" not in caught.value.what


def test_a_digest_has_64_digits(tmp_path):
    with pytest.raises(InputError, match="must have 64 hexadecimal digits"):
        download("http://127.0.0.1:1/w", cache=tmp_path, sha256="abc")


def test_a_path_is_not_a_url():
    assert is_url("https://host/weights.hdf5") and is_url("HTTP://host/w")
    assert not is_url("weights.hdf5") and not is_url("http:weights") and not is_url("ftp://host/w")
