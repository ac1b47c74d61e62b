"""The program files of Apache Kafka, downloaded once per user of the machine and checked by their digests."""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from signalbox.devservers.errors import Unavailable
from signalbox.devservers.progress import Steps, steps

VERSION = "4.1.1"
WITHIN = 300.0
"""Seconds for the whole download."""

UNFINISHED = "unfinished-"
WAY_OUT = "check the connection and try again, or name a Kafka of your own in SIGNALBOX_KAFKA"


@dataclass(frozen=True, slots=True)
class Jar:
    """A line of `kafka.lock`."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def jars() -> tuple[Jar, ...]:
    """All jars of Kafka."""
    lines = (files("signalbox.devservers.kafka") / "kafka.lock").read_text().splitlines()
    return tuple(_jar(line) for line in lines if line and not line.startswith("#"))


def _jar(line: str) -> Jar:
    coordinate, sha256 = line.split()
    group, artifact, version = coordinate.split(":")
    return Jar(group, artifact, version, sha256)


def cache_directory() -> Path:
    """The cache directory of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "signalbox"


def kafka_jars(cache: Path | None = None, within: float = WITHIN) -> Path:
    """The directory with all jars; downloads them the first time. Raises Unavailable."""
    cache = cache or cache_directory()
    ready = cache / f"kafka-{VERSION}"
    if ready.is_dir():
        return ready
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with work_folder(cache) as folder:
            if not ready.is_dir():
                _download(folder, ready, time.monotonic() + within)
    except OSError as error:
        raise Unavailable(f"Kafka {VERSION} cannot be kept in {cache}: {error}; {WAY_OUT}") from error
    return ready


@contextmanager
def work_folder(cache: Path) -> Generator[Path]:
    """A temporary folder in `cache`, for one process at a time; others wait."""
    with (cache / "kafka.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for cut_off in cache.glob(f"{UNFINISHED}*"):
            shutil.rmtree(cut_off)
        with tempfile.TemporaryDirectory(dir=cache, prefix=UNFINISHED) as name:
            yield Path(name)


def _download(folder: Path, ready: Path, until: float) -> None:
    """Creates the complete folder `ready` in one step."""
    wanted = jars()
    beside = folder / "jars"
    beside.mkdir()
    with steps(f"Downloading Kafka {VERSION}, once", len(wanted)) as progress:
        _fetch(wanted, folder / "repository", beside, until, progress)
    beside.rename(ready)


def _fetch(wanted: tuple[Jar, ...], repository: Path, into: Path, until: float, progress: Steps) -> None:
    try:
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext
    except ImportError as error:
        raise Unavailable(
            "the packages that start Kafka are not installed: pip install 'signalbox[devservers]', "
            "or name a Kafka of your own in SIGNALBOX_KAFKA"
        ) from error
    # A separate repository: a partial download must not remain in a shared one.
    # Mirrors are configured in jgo's settings file.
    maven = MavenContext(
        repo_cache=repository, remote_repos=GlobalSettings.load().repositories or None, timeout=20
    )
    for jar in wanted:
        what = f"Kafka {VERSION} cannot be downloaded ({jar.file}"
        if time.monotonic() > until:
            raise Unavailable(f"{what} did not arrive in time); {WAY_OUT}")
        try:
            found = maven.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
        except (OSError, RuntimeError) as error:
            raise Unavailable(f"{what}: {_reason(error)}); {WAY_OUT}") from error
        if hashlib.sha256(found.read_bytes()).hexdigest() != jar.sha256:
            raise Unavailable(f"{what} is not the published file); {WAY_OUT}")
        shutil.move(found, into / jar.file)
        progress.advance()


def _reason(error: Exception) -> str:
    if isinstance(error, RuntimeError):
        return "the repository does not have it"
    return type(error).__name__ if len(str(error)) > 200 else str(error)
