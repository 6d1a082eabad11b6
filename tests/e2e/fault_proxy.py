"""A TCP proxy that does wrong on purpose, between workers and scheduler or clients and scheduler.

    with FaultProxy(target_port) as proxy:                # listens on proxy.port
        proxy.set(up=Faults(delay=0.2, jitter=0.05))      # to the target; `down` is from it
        proxy.set(down=Faults(stall=True))                # bytes stop, the sockets stay
        proxy.cut()                                       # RST to both ends of every connection
        proxy.set(down=Faults(corrupt=0.001))             # of the bytes, one bit each
        proxy.set()                                       # well again

What a direction may suffer at once: delay and jitter (seconds; order is kept), a rate (bytes a second), corruption (a
share of the bytes), a stall. `half_open()` forgets the far end of every connection without telling the near one: what
it sends goes nowhere, as when a host vanishes. `refuse` closes new connections at once.

One thread with one event loop; every method may be called from any other thread. Faults hold for connections that are
there and for those that come. Draws come from the seed.
"""

import asyncio
import contextlib
import dataclasses
import random
import socket
import struct
import threading

PIECE = 16 << 10
MOST_HELD = 1 << 20  # bytes in flight per direction; a stalled far end pushes back on the near one, as a full socket does


@dataclasses.dataclass(frozen=True)
class Faults:
    delay: float = 0.0
    jitter: float = 0.0
    rate: float = 0.0  # bytes per second; 0: as fast as it goes
    corrupt: float = 0.0
    stall: bool = False


class _Direction:
    """One direction of one connection: a reader that stamps pieces with the time they are due, a writer that waits."""

    def __init__(self, link, name, reader, writer):
        self.link, self.name, self.reader, self.writer = link, name, reader, writer
        self.queue = asyncio.Queue()
        self.held = 0
        self.room = asyncio.Event()
        self.room.set()
        self.deaf = False  # what comes is thrown away

    @property
    def faults(self):
        return self.link.proxy.faults[self.name]

    async def read(self):
        last_due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await self.room.wait()
            data = await self.reader.read(PIECE)
            faults, dice = self.faults, self.link.proxy.random
            due = max(last_due, loop.time() + faults.delay + dice.uniform(0, faults.jitter))
            last_due = due
            if self.deaf:
                if not data:
                    return
                continue
            self.queue.put_nowait((due, data))
            self.held += len(data)
            if self.held >= MOST_HELD:
                self.room.clear()
            if not data:
                return

    async def write(self):
        loop = asyncio.get_running_loop()
        while True:
            due, data = await self.queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            while self.faults.stall:
                await self.link.proxy.changed()
            self.held -= len(data)
            self.room.set()
            if self.deaf:
                continue
            if not data:
                with contextlib.suppress(OSError):
                    self.writer.write_eof()
                return
            self.writer.write(self.spoil(data))
            await self.writer.drain()
            self.link.proxy.bytes[self.name] += len(data)
            if self.faults.rate:
                await asyncio.sleep(len(data) / self.faults.rate)

    def spoil(self, data):
        share, dice = self.faults.corrupt, self.link.proxy.random
        if not share:
            return data
        spoiled = bytearray(data)
        for at in range(len(spoiled)):
            if dice.random() < share:
                spoiled[at] ^= 1 << dice.randrange(8)
                self.link.proxy.corrupted += 1
        return bytes(spoiled)


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy, near, far):
        self.proxy = proxy
        self.writers = (near[1], far[1])
        self.up = _Direction(self, "up", near[0], far[1])
        self.down = _Direction(self, "down", far[0], near[1])

    async def run(self):
        tasks = [asyncio.ensure_future(work) for way in (self.up, self.down) for work in (way.read(), way.write())]
        try:
            await asyncio.gather(*tasks)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for task in tasks:
                task.cancel()
            for writer in self.writers:
                writer.close()

    def cut(self):
        for writer in self.writers:
            with contextlib.suppress(OSError):
                # A zero linger makes the close an RST.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def forget_far_end(self):
        self.up.deaf = self.down.deaf = True
        self.writers[1].transport.abort()


class FaultProxy:
    def __init__(self, target_port, port=0, seed=0):
        self.target_port = target_port
        self.faults = {"up": Faults(), "down": Faults()}
        self.refuse = False
        self.random = random.Random(seed)
        self.bytes = {"up": 0, "down": 0}
        self.corrupted = 0
        self.accepted = 0
        self._links = set()
        self._loop = asyncio.new_event_loop()
        self._change = None
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(port, started), name="fault-proxy", daemon=True)
        self._thread.start()
        started.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- any thread

    def set(self, up=Faults(), down=Faults()):
        def apply():
            self.faults = {"up": up, "down": down}
            change, self._change = self._change, asyncio.Event()
            change.set()
        self._call(apply)

    def cut(self):
        self._call(lambda: [link.cut() for link in list(self._links)])

    def half_open(self):
        self._call(lambda: [link.forget_far_end() for link in list(self._links)])

    def connections(self):
        return self._call(lambda: len(self._links))

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    # ---- the loop's thread

    def _call(self, what):
        async def work():
            return what()
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)

    async def changed(self):
        await self._change.wait()

    def _run(self, port, started):
        loop = self._loop
        asyncio.set_event_loop(loop)

        async def listen():
            self._change = asyncio.Event()
            server = await asyncio.start_server(self._accept, "127.0.0.1", port)
            self.port = server.sockets[0].getsockname()[1]
            return server
        server = loop.run_until_complete(listen())
        started.set()
        loop.run_forever()
        server.close()
        for link in list(self._links):
            link.cut()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()

    async def _accept(self, reader, writer):
        self.accepted += 1
        if self.refuse:
            writer.transport.abort()
            return
        try:
            far = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        for one in (writer, far[1]):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(self, (reader, writer), far)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
