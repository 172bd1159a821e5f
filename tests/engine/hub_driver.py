"""Runs `fetch_release` once, in a process of its own, and prints how it ended as JSON.

The one argument is JSON: "offline", "resumed_from_bytes", "chunk_bytes" (the library's download chunk, so that small
files are more than one), "free_bytes" (what the disk is said to have). Waits between retries are skipped. Every address
that is connected to or looked up is recorded, and any but 127.0.0.1 is refused.
"""

import json
import shutil
import socket
import sys
import time
from types import SimpleNamespace
from typing import Any

options = json.loads(sys.argv[1])
addresses: list[str] = []


def guard(owner: Any, name: str, position: int) -> None:
    """Records the address that is the argument at `position`, and refuses all but the double's."""
    original = getattr(owner, name)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        address = args[position]
        host = address[0] if isinstance(address, tuple) else address
        addresses.append(str(host))
        if host != "127.0.0.1":
            raise OSError(f"the test allows no connection to {host}")
        return original(*args, **kwargs)

    setattr(owner, name, guarded)


guard(socket.socket, "connect", 1)
guard(socket.socket, "connect_ex", 1)
guard(socket, "getaddrinfo", 0)
time.sleep = lambda seconds: None

from engine import hub  # noqa: E402
from engine.errors import DiamondError  # noqa: E402

hub.RESUMED_FROM_BYTES = options.get("resumed_from_bytes", hub.RESUMED_FROM_BYTES)
if "chunk_bytes" in options:
    from huggingface_hub import constants

    constants.DOWNLOAD_CHUNK_SIZE = options["chunk_bytes"]
if "free_bytes" in options:
    shutil.disk_usage = lambda path: SimpleNamespace(free=options["free_bytes"])  # type: ignore[assignment,misc,return-value]

result: dict[str, Any] = {"path": None, "error": "", "said": [], "addresses": addresses}
try:
    result["path"] = str(hub.fetch_release(options.get("offline", False), say=result["said"].append))
except DiamondError as error:
    result["error"] = str(error)
print(json.dumps(result))
