"""A small archive of frames on the loopback that fails as it is told, byte by byte."""

import bz2
import dataclasses
import gzip
import os
import socket
import struct
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sdss_photoz.survey import Frame

FRAME = Frame(94, 1, 11, "r")
LATER = {"r": 0, "i": 2, "u": 4, "z": 6, "g": 8}  # frames by which the sky reaches a filter after the first one

LENGTHS = {"huge": str(10**15), "absurd": "9" * 5000, "no number": "\u00b2"}  # that are told of a file, by fault


def header(frame=FRAME, number=None, axes=(2048, 1489), bitpix=-32) -> bytes:
    """The header of a frame."""
    number = frame.field + LATER[frame.band] if number is None else number
    cards = ["SIMPLE  =                    T", f"BITPIX  = {bitpix:20d}", f"NAXIS   = {len(axes):20d}"]
    cards += [f"NAXIS{axis}  = {length:20d}" for axis, length in enumerate(axes, 1)]
    cards += [f"RUN     = {frame.run:20d} / Run number", f"FRAME   = {number:20d}"]
    cards += [f"FILTER  = '{frame.band}       '", f"CAMCOL  = {frame.camcol:20d}"]
    cards += ["CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'", "CRPIX1  = 1025.0", "CRPIX2  = 745.0"]
    cards += ["CRVAL1  = 180.0", "CRVAL2  = 30.0", "CD1_1   = -1.1E-4", "CD1_2   = 0.0", "CD2_1   = 0.0"]
    cards += ["CD2_2   = 1.1E-4", "END"]
    return "".join(card.ljust(80) for card in cards).ljust(2880).encode()


def content(frame=FRAME, size=300_000, **words) -> bytes:
    """A file that begins as the frame does."""
    return bz2.compress(header(frame, **words) + os.urandom(size))


@dataclasses.dataclass
class Asked:
    """A request: path, the Range it asked for, and what was sent of the body (bytes)."""

    path: str
    range: str | None
    sent: int = 0


class FrameServer(ThreadingHTTPServer):
    """Frames by path; faults of each, used up one after the other; an account of requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.faults, self.requests, self.now, self.most_at_once = {}, {}, [], 0, 0
        self.retry_after = {}  # by status
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/sas"

    @property
    def asked(self):
        return [request.path for request in self.requests]

    def add(self, frame, body=None, faults=()):
        self.files[f"/sas/{frame.path()}"] = body or content(frame)
        self.faults[f"/sas/{frame.path()}"] = list(faults)

    def body(self, frame):
        return self.files[f"/sas/{frame.path()}"]

    def handle_error(self, *_):
        pass  # a client that was killed


class Answer(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, self.record = self.server, Asked(self.path, self.headers.get("Range"))
        with server.lock:
            server.requests.append(self.record)
            server.now += 1
            server.most_at_once = max(server.most_at_once, server.now)
        self.under_way = True
        try:
            faults = server.faults.get(self.path, [])
            self.answer(server.files.get(self.path), faults.pop(0) if faults else None)
        finally:
            self.end()

    def end(self):
        """Before the last piece is sent: after it, the client may begin its next request."""
        with self.server.lock:
            self.server.now -= self.under_way
            self.under_way = False

    def answer(self, body, fault):
        if body is None or isinstance(fault, int):
            self.send_response(404 if body is None else fault)
            if fault in self.server.retry_after:
                self.send_header("Retry-After", self.server.retry_after[fault])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if isinstance(fault, str) and fault.startswith("to "):
            self.send_response(302)
            self.send_header("Location", fault[3:])
            self.end_headers()
            return
        etag = f'"{hash(body):x}"'
        if fault == "changed":  # while it is fetched
            body = self.server.files[self.path] = content(Frame.from_path(self.path))
            etag = f'"{hash(body):x}"'
        first, asked = 0, self.headers.get("Range")
        if asked and fault != "no ranges" and self.headers.get("If-Range", etag) in (etag, "any"):
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
        if first >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "html":
            body = b"<html><body>The archive is under maintenance</body></html>"
        if fault == "flipped":
            body = body[:40] + bytes([body[40] ^ 255]) + body[41:]
        if fault == "flipped in its middle":
            middle = len(body) // 2
            body = body[:middle] + bytes(255 - byte for byte in body[middle : middle + 8]) + body[middle + 8 :]
        encoding = fault.removeprefix("encoding ") if isinstance(fault, str) and fault.startswith("encoding ") else ""
        if encoding:
            body = gzip.compress(bytes(10**6))
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        if encoding:
            self.send_header("Content-Encoding", encoding)
        if fault not in ("short without length", "endless"):
            self.send_header("Content-Length", LENGTHS.get(fault, str(len(body) - first)))
        self.send_header("ETag", etag)
        self.end_headers()
        self.send(body[first:], fault)

    def send(self, body, fault):
        if fault == "endless":
            while True:
                self.write(bytes(1 << 20))
        if fault == "drops":  # a fifth at once, the rest for a minute
            self.write(body[: len(body) // 5])
            for start in range(len(body) // 5, len(body), 1 << 10):
                time.sleep(0.05)
                self.write(body[start : start + (1 << 10)], last=start + (1 << 10) >= len(body))
            return
        if fault == "slow":
            for start in range(0, len(body), 1 << 14):
                time.sleep(0.05)
                self.write(body[start : start + (1 << 14)], last=start + (1 << 14) >= len(body))
            return
        half = len(body) // 2
        self.write(body[:half])
        if fault in ("short", "short without length"):
            return
        if fault == "hang":
            time.sleep(3)
            return
        if fault == "reset":
            time.sleep(0.05)  # a reset discards what was not read yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.wfile.close()
            self.connection.close()
            return
        self.write(body[half:], last=True)

    def write(self, piece, last=False):
        self.record.sent += len(piece)
        if last:
            self.end()
        self.wfile.write(piece)
        self.wfile.flush()


@contextmanager
def frame_server():
    """A running server."""
    server = FrameServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
