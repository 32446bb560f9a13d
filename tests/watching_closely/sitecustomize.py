"""On the PYTHONPATH of Snakemake in tests: it looks at the jobs of a cluster every second.

What follows jobs on a real cluster looks ever more seldom, up to three minutes apart, and a test would wait for that.
"""

import asyncio
import sys

if sys.argv and sys.argv[0].endswith("/bin/snakemake"):
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    async def sleep(self):
        await asyncio.sleep(1)

    RemoteExecutor.sleep = sleep
