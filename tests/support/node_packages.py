"""Programs from npm, installed once per lock file in the user's cache."""

import asyncio
import hashlib
import shutil
import tempfile
from pathlib import Path

from signalbox.devservers.kafka.jars import cache_directory
from tests.support.real_parts import missing
from tests.support.shared import alone
from tests.support.toolchains import DownloadFailed, download

FILES = ("package.json", "package-lock.json", ".npmrc")


def node_packages(folder: Path) -> Path:
    """The directory of the programs of `folder`, which has FILES.

    Skips the test where there is no npm or no connection; SIGNALBOX_REQUIRE_REAL=1 fails it.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        missing(DownloadFailed("node and npm are not installed"))
    content = b"".join((folder / name).read_bytes() for name in FILES)
    cache = cache_directory()
    ready = cache / f"npm-{folder.name}-{hashlib.sha256(content).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / "npm.lock"):
        if not ready.is_dir():
            with tempfile.TemporaryDirectory(prefix="npm-", dir=cache, ignore_cleanup_errors=True) as work:
                made = Path(work) / "installed"
                made.mkdir()
                for name in FILES:
                    shutil.copy(folder / name, made)
                asyncio.run(download([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], made))
                made.rename(ready)
    return ready / "node_modules" / ".bin"
