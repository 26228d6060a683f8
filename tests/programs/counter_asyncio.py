import asyncio
import sys

n = 0


async def talk(reader, writer):
    global n
    while await reader.readline():
        n += 1
        await asyncio.sleep(0.001)
        writer.write(b"%d\n" % n)
        await writer.drain()


async def main():
    async with await asyncio.start_server(talk, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()


asyncio.run(main())
