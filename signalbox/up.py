"""`signalbox up`: everything in one process, until it is told to stop."""

import asyncio
import gc
import signal
import sys
import time

from rich.console import Console

from signalbox import logs
from signalbox.envoy import EnvoyMissing
from signalbox.first_start import FirstStartFailed
from signalbox.ports import PortUnusable
from signalbox.sample import CONTEXT
from signalbox.settings import Settings
from streams.log import LogError
from streams.sqlite.lock import DirectoryInUse

EXPECTED = (PortUnusable, DirectoryInUse, LogError, EnvoyMissing, FirstStartFailed, OSError)
"""What can go wrong through nobody's fault but the surroundings': told in a sentence, not a traceback."""


def run_up(settings: Settings) -> int:
    """Runs until SIGINT or SIGTERM; the exit code."""
    # The log's thread must not wait for a busy loop's whole time slice: p99 of an append 1.4 s -> 13 ms.
    sys.setswitchinterval(0.0005)
    gc.disable()  # until `settle`: nearly all that a start makes stays
    logs.set_up(json=True if settings.json_logs else None)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(_up(settings))
    return uvloop.run(_up(settings))


async def _up(settings: Settings) -> int:
    from schemas.upcasting import UnknownSchema
    from signalbox.compose import Signalbox

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    began = time.perf_counter()
    try:
        async with Signalbox(settings) as running:
            settle()
            _welcome(settings, time.perf_counter() - began)
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait([stopped, running.failed], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if running.failed.done():
                running.failed.result()
            print("Stopping.", file=sys.stderr, flush=True)
    except (*EXPECTED, UnknownSchema) as error:
        print(f"signalbox: {error}", file=sys.stderr)
        return 1
    return 0


def settle() -> None:
    """Tells the garbage collector that what lives now stays: it would look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


def _welcome(settings: Settings, seconds: float) -> None:
    console = Console(highlight=False)
    console.print(f"[bold]Signalbox[/bold] is up ({seconds:.1f} s). Stop with Ctrl-C.\n")
    rows = [("API", settings.http.url), ("token", str(settings.admin_token)), ("data", str(settings.data))]
    if settings.envoy:
        rows.insert(1, ("gateway", f"{settings.gateway.url}  (Envoy)"))
    else:
        rows.insert(1, ("xDS", f"{settings.xds}  (--no-envoy: connect your own)"))
    for name, value in rows:
        console.print(f"  {name:8} {value}", soft_wrap=True)
    if settings.envoy and settings.sample:
        console.print("\nA sample API is deployed. Try:\n")
        console.print(f"  curl {settings.gateway.url}{CONTEXT}/you\n", soft_wrap=True, markup=False)
    sys.stdout.flush()
