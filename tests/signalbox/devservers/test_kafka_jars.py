"""Kafka's files are downloaded once, complete and checked; failures are reported in a sentence."""

import hashlib
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from signalbox.devservers.errors import Unavailable
from signalbox.devservers.kafka.jars import VERSION, jars, kafka_jars
from tests.support.free_ports import free_port

Mirror = Callable[[Path], None]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Makes downloads come from a folder of jars, over HTTP and from this machine."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def serve(folder: Path) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                file = folder / Path(self.path).name
                if not file.exists():
                    self.send_error(HTTPStatus.NOT_FOUND)
                    return
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Length", str(file.stat().st_size))
                self.end_headers()
                with file.open("rb") as content:
                    shutil.copyfileobj(content, self.wfile)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        use(server.server_address[1])

    def use(port: int) -> None:
        settings = tmp_path / "jgo.conf"
        settings.write_text(f"[repositories]\ncentral = http://127.0.0.1:{port}/maven\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))

    # A closed port, until a test serves a folder.
    use(free_port())
    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_list_names_kafka_and_a_digest_for_every_file() -> None:
    listed = jars()
    assert ("org.apache.kafka", "kafka_2.13", VERSION) in {(j.group, j.artifact, j.version) for j in listed}
    assert len({jar.file for jar in listed}) == len(listed)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in listed)


def test_a_download_brings_every_file_and_happens_once(
    kafka_files: Path, mirror: Mirror, tmp_path: Path
) -> None:
    mirror(kafka_files)
    cache = tmp_path / "empty" / "cache"
    (cache / "unfinished-by-one-that-was-killed" / "jars").mkdir(parents=True)
    folder = kafka_jars(cache)
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    assert found == {jar.file: jar.sha256 for jar in jars()}
    assert {path.name for path in cache.iterdir()} == {folder.name, "kafka.lock"}, "nothing else is left"

    mirror(tmp_path / "no such folder")
    assert kafka_jars(cache) == folder


def test_without_a_connection_it_names_the_missing_download_and_the_remedy(
    mirror: Mirror, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable) as refused:
        kafka_jars(tmp_path / "cache")
    message = str(refused.value)
    assert message.startswith(f"Kafka {VERSION} cannot be downloaded ({jars()[0].file}: ")
    assert message.endswith("or name a Kafka of your own in SIGNALBOX_KAFKA")
    assert "\n" not in message
    assert len(message) < 300
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["kafka.lock"]


def test_a_file_that_is_not_the_published_one_is_refused(
    kafka_files: Path, mirror: Mirror, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for jar in jars()[:2]:
        shutil.copy(kafka_files / jar.file, other)
    (other / jars()[1].file).write_bytes(b"something else")
    mirror(other)
    with pytest.raises(Unavailable, match=f"{jars()[1].file} is not the published file"):
        kafka_jars(tmp_path / "cache")
    assert not (tmp_path / "cache" / f"kafka-{VERSION}").exists()


def test_a_file_missing_in_a_repository_is_named(mirror: Mirror, tmp_path: Path) -> None:
    mirror(tmp_path / "no such folder")
    with pytest.raises(Unavailable, match=f"{jars()[0].file}: the repository does not have it"):
        kafka_jars(tmp_path / "cache")


def test_a_download_that_takes_too_long_ends(kafka_files: Path, mirror: Mirror, tmp_path: Path) -> None:
    mirror(kafka_files)
    with pytest.raises(Unavailable, match="did not arrive in time"):
        kafka_jars(tmp_path / "cache", within=0)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where the folder should be")
    with pytest.raises(Unavailable, match=f"cannot be kept in {tmp_path / 'cache'}.*SIGNALBOX_KAFKA"):
        kafka_jars(tmp_path / "cache")
