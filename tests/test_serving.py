"""`tfr serve`: the real server in a process of its own, asked over HTTP, and told to stop."""

import base64
import concurrent.futures
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import numpy as np
import pytest
from PIL import ExifTags, Image

import tfr
from tfr import cli
from tfr.errors import TfrError
from tfr.train.serving import server as server_lib

LIMIT_MB = 2


class Server:
    """A server process and its address."""

    def __init__(self, run_path, *arguments):
        command = [sys.executable, "-m", "tfr", "serve", run_path, "--port=0", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.said = self.process.stderr.readline()
        self.url = re.search(r"http://\S+", self.said)[0]
        for _ in range(600):  # it listens before the model is loaded, and answers when it is
            try:
                self.get("/healthz")
                return
            except OSError:
                time.sleep(0.1)

    def request(self, path, data=None, headers=None):
        """(status, headers, body) of an answer, whatever its status."""
        request = urllib.request.Request(self.url + path, data=data, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as err:
            return err.code, err.headers, err.read()

    def get(self, path):
        """The JSON of an answer that is no error."""
        status, _, body = self.request(path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path, data, kind="image/jpeg"):
        """(status, JSON) of an answer."""
        status, _, body = self.request(path, data, {"Content-Type": kind})
        return status, json.loads(body)

    def post_json(self, path, value):
        """The same with a JSON body."""
        return self.post(path, json.dumps(value).encode(), "application/json")

    def post_files(self, path, files):
        """The same with a form of (name, content)."""
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode()
            + data
            + b"\r\n"
            for name, data in files
        ]
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        return self.post(path, body, f"multipart/form-data; boundary={boundary}")


@pytest.fixture(scope="module")
def server(trained_run):
    """A running server."""
    running = Server(trained_run, f"--max_request_mb={LIMIT_MB}", "--gallery_size=5", "--batch_wait_ms=150")
    yield running
    if running.process.poll() is None:
        running.process.kill()
    running.process.stderr.close()
    running.process.wait()


@pytest.fixture(scope="module")
def contents(drawn):
    """Name and content of eight drawn images."""
    names = sorted(name for name in os.listdir(drawn[1]) if name.startswith("shapes_"))[:8]
    found = {}
    for name in names:
        with open(os.path.join(drawn[1], name), "rb") as file:
            found[name] = file.read()
    return found


@pytest.fixture(scope="module")
def expected(trained_run, contents):
    """What the tagger itself says of these."""
    found = tfr.load_tagger(trained_run).predict(contents.values(), top_k=9)
    return dict(zip(contents, found, strict=True))


def said(answer):
    """Label to probability of one prediction in an answer."""
    return {tag["label"]: tag["probability"] for tag in answer["tags"]}


# Answers


def test_it_says_where_it_is_and_what_it_knows(server, trained_run):
    assert server.said.startswith(f"{trained_run} is served on http://127.0.0.1:")
    labels = server.get("/labels")
    assert labels["labels"] == sorted(labels["labels"])
    assert set(labels["thresholds"]) == set(labels["labels"])
    assert server.get("/healthz") == {"status": "ok", "model": "tagger", "num_labels": 9}


def test_an_image_as_the_body_has_the_probabilities_of_the_tagger(server, contents, expected):
    for name in list(contents)[:2]:
        status, answer = server.post("/predict?top_k=9", contents[name])
        assert status == 200
        (prediction,) = answer["predictions"]
        assert said(prediction) == pytest.approx(dict(expected[name].tags), abs=1e-4)
        limits = server.get("/labels")["thresholds"]
        for tag in prediction["tags"]:
            margin = tag["probability"] - limits[tag["label"]]
            assert tag["shown"] == (margin >= 0) or abs(margin) < 1e-5  # probabilities are rounded to six digits


def test_top_k_and_thresholds_are_those_of_predict(server, contents, expected):
    name = next(iter(contents))
    best = expected[name].tags[0]
    assert [*said(server.post("/predict?top_k=1", contents[name])[1]["predictions"][0])] == [best.label]
    cut = expected[name].tags[3].probability - 1e-4
    found = said(server.post(f"/predict?thresholds={cut}", contents[name])[1]["predictions"][0])
    assert [*found] == [tag.label for tag in expected[name].tags if tag.probability >= cut]


def test_the_files_of_a_form(server, contents, expected):
    status, answer = server.post_files("/predict?top_k=9", contents.items())
    assert status == 200
    assert [prediction["image"] for prediction in answer["predictions"]] == list(contents)
    for prediction in answer["predictions"]:
        assert said(prediction) == pytest.approx(dict(expected[prediction["image"]].tags), abs=1e-4)


@pytest.mark.parametrize("wrap", [lambda b64: b64, lambda b64: {"image_bytes": b64}])
def test_the_rest_api_of_tensorflow_serving(wrap, server, contents, expected):
    instances = [wrap({"b64": base64.b64encode(data).decode()}) for data in contents.values()]
    status, answer = server.post_json("/v1/models/tagger:predict", {"instances": instances})
    assert status == 200
    limits = server.get("/labels")["thresholds"]
    for prediction, name in zip(answer["predictions"], contents, strict=True):
        np.testing.assert_allclose(prediction["probabilities"], expected[name].probabilities, atol=1e-4)
        assert prediction["labels"] == server.get("/labels")["labels"]
        assert prediction["tags"] == [t.label for t in expected[name].tags if t.probability >= limits[t.label]]
    assert server.get("/v1/models/tagger")["model_version_status"][0]["state"] == "AVAILABLE"
    assert server.post_json("/predict", {"instances": instances})[0] == 200


def test_other_formats_are_read_too(server, make_photo, encode):
    for format in ("PNG", "WEBP", "GIF"):
        status, answer = server.post("/predict", encode(make_photo(1), format), "application/octet-stream")
        assert (status, len(answer["predictions"])) == (200, 1)


def test_concurrent_requests_go_through_the_network_together_and_are_not_mixed_up(server, contents, expected):
    names = list(contents) * 4
    before = server.get("/healthz")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda name: server.post("/predict?top_k=9", contents[name]), names))
    assert before == server.get("/healthz")
    for name, (status, answer) in zip(names, answers, strict=True):
        assert status == 200
        assert said(answer["predictions"][0]) == pytest.approx(dict(expected[name].tags), abs=1e-4)


# What is refused


@pytest.mark.parametrize(
    ("path", "data", "kind", "status", "message"),
    [
        ("/predict", b"no image", "image/jpeg", 400, "the body: not_an_image"),
        ("/predict", b"", "image/jpeg", 400, "no image in the request"),
        ("/predict", b"x", "text/html", 415, r"'text/html' is not read"),
        ("/predict", b"{", "application/json", 400, "not JSON"),
        ("/predict", b"[" * 100_000, "application/json", 400, "not JSON"),
        ("/predict", b"{}", "application/json", 400, "instances"),
        ("/predict", b'{"instances": []}', "application/json", 400, "no image in the request"),
        ("/predict", b'{"instances": ["x"]}', "application/json", 400, "Instance 0 must be"),
        ("/predict", b'{"instances": [{"b64": "%"}]}', "application/json", 400, "Instance 0 is not base64"),
        ("/predict", b'{"instances": [{"b64": "AAAA"}]}', "application/json", 400, "instance 0: not_an_image"),
        ("/predict", json.dumps({"instances": [{"b64": ""}] * 65}).encode(), "application/json", 413, "at most 64"),
        ("/predict", b"--x\r\n", "multipart/form-data; boundary=x", 400, "."),
        ("/predict", b"x", "multipart/form-data", 400, "boundary"),
        ("/predict?top_k=0", b"x", "image/jpeg", 400, "top_k must be a positive"),
        ("/predict?topk=1", b"x", "image/jpeg", 400, r"Unknown parameters \['topk'\]"),
        ("/predict?thresholds=2", b"x", "image/jpeg", 400, "thresholds must be none, run"),
        ("/v1/models/other:predict", b"{}", "application/json", 404, "Not Found"),
        ("/healthz", b"x", "image/jpeg", 405, "Method Not Allowed"),
        ("/predict", b"x" * ((LIMIT_MB << 20) + 1), "image/jpeg", 413, f"larger than {LIMIT_MB} MB"),
    ],
)
def test_bad_requests_get_a_clear_4xx(path, data, kind, status, message, server):
    try:
        got, answer = server.post(path, data, kind)
    except urllib.error.URLError:  # the server answered and closed while we were still sending
        assert status == 413
        return
    assert got == status, answer
    assert re.search(message, answer["error"])
    assert "\n" not in answer["error"]


def test_one_bad_image_of_several_is_named(server, contents):
    name, data = next(iter(contents.items()))
    status, answer = server.post_files("/predict", [(name, data), ("cut.jpg", data[: len(data) // 2])])
    assert status == 400
    assert answer["error"].startswith("cut.jpg: truncated")
    assert server.post("/predict", data)[0] == 200


def test_bodies_of_no_stated_length_are_limited_too(server):
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.url).netloc, timeout=60)
    blocks = (b"x" * 65_536 for _ in range((LIMIT_MB << 20) // 65_536 + 2))
    try:
        connection.request("POST", "/predict", body=blocks, headers={"Content-Type": "image/jpeg"}, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # it answered and closed while we were still sending
    finally:
        connection.close()
    assert server.get("/healthz")["status"] == "ok"


def test_images_of_too_many_pixels_are_refused_before_they_are_decoded(server):
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "PNG")
    status, answer = server.post("/predict", buffer.getvalue(), "image/png")
    assert status == 400
    assert "too_large: 9000 x 9000 pixels" in answer["error"]


# The page


def test_the_page_needs_no_other_host(server):
    status, headers, body = server.request("/")
    page = body.decode()
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "Drop images here" in page
    assert not re.findall(r"(?:src|href)=[\"']?https?:|@import|url\(", page)


def test_the_gallery_finds_images_by_tag_and_forgets_the_oldest(server, contents, encode, make_photo):
    shown = {}
    for name, data in contents.items():  # eight, where five have room
        assert server.post_files("/gallery", [(f"<b>{name}", data)])[0] == 200
        (prediction,) = server.post("/predict?thresholds=run", data)[1]["predictions"]
        shown[f"<b>{name}"] = set(said(prediction))
    found = server.get("/gallery")
    assert [image["image"] for image in found["images"]] == list(reversed(shown))[:5]
    for image in found["images"]:
        assert {tag["label"] for tag in image["tags"]} == shown[image["image"]]
    for tag, count in found["tags"].items():
        with_tag = server.get(f"/gallery?tag={urllib.parse.quote(tag)}")["images"]
        assert {image["image"] for image in with_tag} == {n for n in list(shown)[3:] if tag in shown[n]}
        assert len(with_tag) == count
    status, headers, body = server.request(found["images"][0]["thumbnail"])
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert max(Image.open(io.BytesIO(body)).size) <= 360
    assert server.request("/gallery/nothing.jpg")[0] == 404
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "somebody"
    server.post("/gallery", encode(make_photo(1), exif=exif))
    assert b"somebody" not in server.request(server.get("/gallery")["images"][0]["thumbnail"])[2]


# Starting and stopping


def test_a_port_is_taken_while_the_model_is_still_loaded():
    first = server_lib._listen("127.0.0.1", 0)
    with first, pytest.raises(TfrError, match=r"Cannot listen on .*Address already in use"):
        server_lib._listen("127.0.0.1", first.getsockname()[1])


def test_a_port_that_is_taken_is_one_line(server, trained_run, capsys):
    port = urllib.parse.urlsplit(server.url).port
    assert cli.main(["serve", trained_run, f"--port={port}"]) == 1
    assert re.fullmatch(rf"tfr: Cannot listen on .* --port={port}: .*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "takes one run directory"),
        (["nowhere"], 1, "No run directory at nowhere"),
        (["RUN", "--port=99999"], 2, "--port must be from 0 to 65535"),
        (["RUN", "--name=a/b"], 2, "--name must be letters"),
        (["RUN", "--max_pixels=0"], 2, "--max_pixels"),
    ],
)
def test_wrong_calls_are_one_line(arguments, code, message, trained_run, capsys):
    assert cli.main(["serve", *[trained_run if a == "RUN" else a for a in arguments]]) == code
    errors = capsys.readouterr().err
    assert re.fullmatch(r"tfr: .+\n", errors)
    assert re.search(message, errors)


def test_a_missing_package_is_named_with_its_command(trained_run, monkeypatch, capsys):
    import importlib.util

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find_spec(name))
    assert cli.main(["serve", trained_run]) == 1
    assert capsys.readouterr().err == "tfr: tfr serve needs uvicorn: pip install 'tfr[serve]'\n"


def test_sigterm_ends_it_after_what_it_works_on(server, contents, expected):
    """The last test of this server: requests that are on their way are answered, then it is gone, without an error."""
    name, data = next(iter(contents.items()))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(server.post, "/predict?top_k=9", data) for _ in range(4)]
        time.sleep(0.08)  # they wait for a batch for 0.15 s
        server.process.send_signal(signal.SIGTERM)
        answers = [request.result() for request in pending]
    for status, answer in answers:
        assert status == 200
        assert said(answer["predictions"][0]) == pytest.approx(dict(expected[name].tags), abs=1e-4)
    assert server.process.wait(60) == 0
    with pytest.raises(OSError, match="refused"):
        server.get("/healthz")
