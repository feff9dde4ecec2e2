#!/usr/bin/env python3
"""A wire to a port of loopback that can be slow, or cut: `wire.py PORT` says where it begins, and is told `slow SECONDS`, `cut` or `well` by lines."""
import asyncio
import sys


class Wire:
    def __init__(self, port):
        self.port, self.delay, self.whole, self.open = port, 0.0, True, set()

    async def pump(self, reader, writer):
        """Each piece comes so much later than it was sent, however many are on their way."""
        now, way = asyncio.get_running_loop().time, asyncio.Queue(256)

        async def sends():
            while (piece := await way.get()) is not None:
                due, data = piece
                await asyncio.sleep(max(0, due - now()))
                writer.write(data)
                await writer.drain()

        sending = asyncio.ensure_future(sends())
        try:
            while not sending.done() and (data := await reader.read(65536)):
                await way.put((now() + self.delay, data))
            await way.put(None)
            await sending
        except OSError:
            pass
        finally:
            sending.cancel()
            writer.close()

    async def serve(self, reader, writer):
        if not self.whole:
            writer.close()
            return
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.close()
            return
        both = {writer, forth}
        self.open |= both
        await asyncio.gather(self.pump(reader, forth), self.pump(back, writer))
        self.open -= both

    async def told(self):
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := (await lines.readline()).decode().split():
            self.whole = line[0] != "cut"
            self.delay = float(line[1]) if line[0] == "slow" else 0.0
            if not self.whole:
                for one in [*self.open]:
                    one.transport.abort()

    async def run(self):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        # It ends with whoever tells it what to do.
        await self.told()


if __name__ == "__main__":
    asyncio.run(Wire(int(sys.argv[1])).run())
