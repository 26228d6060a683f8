"""asyncio: tasks asleep, a subprocess, a signal handler, a queue."""

import asyncio
import os
import signal

from target_api import checkpoint, run


async def life():
    loop, seen, items = asyncio.get_running_loop(), [], asyncio.Queue()
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)

    async def later(n):
        await asyncio.sleep(0.3)
        await items.put(n)

    tasks = [asyncio.create_task(later(n)) for n in range(5)]
    await asyncio.sleep(0)
    tampered = checkpoint(same=False)
    os.kill(os.getpid(), signal.SIGUSR1)
    process.stdin.write(b"through cat")
    process.stdin.close()
    assert await asyncio.wait_for(process.stdout.read(), 60) == b"through cat"
    assert await process.wait() == 0
    await asyncio.gather(*tasks)
    assert sorted(items.get_nowait() for _ in range(5)) == list(range(5)) and not tampered
    assert seen == ["signal"]


def main():
    asyncio.run(life())


run(main)
