"""Supervises an Envoy until it is killed: `python -m tests.signalbox.envoy.supervise DIRECTORY PORT`."""

import asyncio
import sys
from pathlib import Path

from signalbox.envoy.supervisor import EnvoySupervisor
from tests.signalbox.envoy.envoy_bootstrap import static_bootstrap


async def main(directory: Path, port: int) -> None:
    supervisor = EnvoySupervisor(
        directory=directory,
        bootstrap=lambda admin: static_bootstrap(port, admin),
        listen=("127.0.0.1", port),
        concurrency=1,
    )
    await supervisor.start()
    await supervisor.wait_ready()
    print(supervisor.status.pid, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
