"""`manage.py relay`: a relay node, which passes live pictures on for the web processes."""

import asyncio
import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from events.threads import in_thread
from media import nodes, relaying
from portal.garbage import keep_what_is_loaded
from portal.open_files import raise_limit_of_open_files


class Command(BaseCommand):
    """
    One node. Start as many as you like, on as many machines; each needs the database, Redis, and UDP to browsers and Ring.

    SIGTERM sends its viewers to the other nodes and ends its sessions at Ring.
    """

    help = "Pass live pictures on for the web processes (LIVE_RELAY=nodes)."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.LIVE_RELAY != "nodes":
            raise CommandError(
                "Nobody would ask this process: set LIVE_RELAY=nodes, here and for the web processes."
            )
        keep_what_is_loaded()
        raise_limit_of_open_files()
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        told_to_stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
        stopping = asyncio.create_task(told_to_stop.wait())
        opening = asyncio.create_task(nodes.open_channel())
        await asyncio.wait([opening, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            opening.cancel()
            return
        channel = opening.result()
        answering = asyncio.create_task(nodes.answer_all(channel, relaying.answer_as_node))
        name = await in_thread(relaying.start_node, channel)
        self.stdout.write(f"Relay node {name} is ready.")
        await asyncio.wait([answering, stopping], return_when=asyncio.FIRST_COMPLETED)
        await relaying.stop_node()
        answering.cancel()
        stopping.cancel()
        await asyncio.gather(answering, stopping, return_exceptions=True)
        if not told_to_stop.is_set():
            answering.result()  # it ended by a mistake of ours: say so
