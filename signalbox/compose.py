"""The composition root: an embedded Signalbox, all roles in one process, started and stopped in order."""

import asyncio
import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from signalbox.data_directory import DataDirectory
from signalbox.data_plane import DataPlane
from signalbox.discovery.tls import identity
from signalbox.listen_addresses import write_listen_addresses
from signalbox.ports import require_free
from signalbox.service_group import ServiceGroup
from signalbox.settings import Settings
from signalbox.tokens import kept_secret
from streams.sqlite.ahead_of_log import CONFIG, READ_MODELS, require_reached
from streams.sqlite.config import SqliteConfigTopic
from streams.sqlite.documents import SqliteDocuments
from streams.sqlite.log import SqliteLog


class Signalbox:
    """`async with Signalbox(settings)` is up until the block ends.

    `failed` is done when a task that must run until the stop has ended, with its error.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._group = ServiceGroup()
        self.failed = self._group.failed
        self.sample_deployed = False

    async def __aenter__(self) -> "Signalbox":
        try:
            await self._start()
        except BaseException:
            await self._group.stop()
            raise
        return self

    async def started(self) -> None:
        """Returns at once: it is started when the block begins."""

    async def __aexit__(self, *_: Any) -> None:
        await self._group.stop()

    async def _start(self) -> None:
        settings, group = self.settings, self._group
        directory = group.closed_at_stop(await DataDirectory.open(settings.data))
        log = group.closed_at_stop(await SqliteLog.open(settings.data, lock=directory.lock))
        await asyncio.to_thread(require_reached, settings.data, log.ends())
        require_free(settings.http.host, settings.http.port, what="the HTTP API", option="--http HOST:PORT")
        identity(settings)  # before anything listens
        require_free(settings.xds.host, settings.xds.port, what="the xDS server", option="--xds HOST:PORT")
        listens = {
            option: at for option, at in settings.addresses.items() if settings.envoy or option != "gateway"
        }
        write_listen_addresses(settings.data, listens)
        kept_secret(settings.admin_token, "sba_")
        proved = CONFIG in directory.proved
        config = group.closed_at_stop(await SqliteConfigTopic.open(settings.data, proved=proved))
        documents = group.closed_at_stop(await SqliteDocuments.open(settings.data))
        gateways = DataPlane(settings, group, log, config)
        await gateways.start()
        # Loading this takes longer than all before it: in a thread, while proxies are served.
        await asyncio.to_thread(importlib.import_module, "signalbox.control_plane")
        from signalbox.control_plane import ControlPlane, open_read_models

        store = await asyncio.to_thread(open_read_models, settings.data / READ_MODELS)
        group.callback(store.close)
        files = {"log": log, "configuration": config, "documents": documents}
        control_plane = ControlPlane(
            settings, group, log, documents, gateways, store, partial(_refusing, files)
        )
        await control_plane.start()
        self.sample_deployed = control_plane.sample_deployed
        await gateways.load_translators()
        await gateways.reconcile()
        directory.sound = lambda: not group.failed.done()


def _refusing(files: Mapping[str, SqliteLog | SqliteConfigTopic | SqliteDocuments]) -> str | None:
    """The file that refuses writes at the moment, and why; None when none does."""
    return next(
        (f"the {name} refuses writes: {of.refusing}" for name, of in files.items() if of.refusing), None
    )
