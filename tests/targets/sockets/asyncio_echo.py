"""An asyncio server and client in one loop, in the middle of their talk."""

import asyncio

from target_api import DIR, checkpoint, run


async def talk():
    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    count = 0

    async def chat():
        nonlocal count
        while not (DIR / "go").exists():
            count += 1
            writer.write(b"line %d\n" % count)
            assert await reader.readline() == b"LINE %d\n" % count
            await asyncio.sleep(0.01)

    chatter = asyncio.create_task(chat())
    while count < 5:
        await asyncio.sleep(0.01)
    tampered = checkpoint()
    await asyncio.wait_for(chatter, 60)
    writer.write(b"last\n")
    assert await asyncio.wait_for(reader.readline(), 60) == (b"" if tampered else b"LAST\n")
    writer.close()
    server.close()


def main():
    asyncio.run(talk())


run(main)
