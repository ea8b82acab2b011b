"""The Science Archive Server: files with ranges."""

import asyncio
import os
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from aiohttp import web
from tests.services.server.faults import html_page

NOT_FOUND = "<html><head><title>404 Not Found</title></head><body><center><h1>404 Not Found</h1></center></body></html>"


class ScienceArchive:
    """The service; `folder` stands for the root of the archive."""

    def __init__(self, folder: Path):
        self.folder = folder

    def routes(self) -> list:
        """(method, path, kind, handler) of each call; handlers take (request, fault)."""
        return [(method, "/sas/{path:.+}", "frame", self.send) for method in ("GET", "HEAD")]

    async def send(self, request, fault):
        """Answer with a file, or with the range of it that is asked for."""
        path = Path(os.path.normpath(self.folder / request.match_info["path"]))
        if not path.is_relative_to(self.folder) or not await asyncio.to_thread(path.is_file):
            return html_page(404, NOT_FOUND)
        return await asyncio.to_thread(_answer, request, path)


def _answer(request, path):
    body, state = path.read_bytes(), path.stat()
    tag = f'"{state.st_mtime_ns:x}-{len(body):x}"'
    modified = format_datetime(datetime.fromtimestamp(int(state.st_mtime), UTC), usegmt=True)
    headers = {
        **{"ETag": tag, "Last-Modified": modified, "Accept-Ranges": "bytes"},
        "Content-Type": "application/x-bzip2" if path.suffix == ".bz2" else "application/octet-stream",
    }
    if request.headers.get("If-None-Match") in (tag, "*"):
        return web.Response(status=304, headers=headers)
    if request.headers.get("If-Match", tag) not in (tag, "*"):
        return web.Response(status=412)
    if "Range" not in request.headers or request.headers.get("If-Range", tag) not in (tag, modified):
        return web.Response(body=body, headers=headers)
    try:
        first, last, _ = request.http_range.indices(len(body))
    except ValueError:
        first, last = len(body), 0
    if first >= last:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{len(body)}"})
    headers["Content-Range"] = f"bytes {first}-{last - 1}/{len(body)}"
    return web.Response(status=206, body=body[first:last], headers=headers)
