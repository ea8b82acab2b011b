"""The embedded archive behind HTTP."""

import asyncio
import threading
from pathlib import Path

from aiohttp import web
from tests.services.server import casjobs
from tests.services.server.casjobs import CasJobs
from tests.services.server.faults import BROKEN, Faults, send_spoiled
from tests.services.server.limits import Limits
from tests.services.server.log import Log, Request
from tests.services.server.sas import ScienceArchive
from tests.services.server.skyserver import SkyServer

from sdss_photoz.embedded.connection import connect
from sdss_photoz.errors import UserError

LARGEST_QUERY = 1 << 24  # bytes


class Server:
    """A context within which the embedded archive is served, with the paths of the survey's services.

    Parameters
    ----------
    folder : str or Path
        Holds catalog.duckdb and sas/, the root of the frames.
    release : int
        Data release that it stands for: names the SkyServer's pages and the context of CasJobs.
    port : int
        0: any that is free.
    limits : Limits
        Of the query services.
    faults : Faults
        None by default.
    log : str or Path, optional
        CSV of the requests.
    host : str
        Address to listen on; none but this machine can reach the default.
    job_seconds : float
        How long a batch query takes at least.
    token_seconds : float
        Lifetime of a token.

    Attributes
    ----------
    url, casjobs, login, skyserver, sas : str
        Addresses of the services.
    requests : list of Request
        What was asked, in the order in which it came.

    Raises
    ------
    UserError
        Where the folder has no catalogue, the log cannot be written or the port cannot be had.
    """

    def __init__(
        self,
        folder,
        release: int = 12,
        port: int = 0,
        limits: Limits = Limits(),  # noqa: B008
        faults: Faults | None = None,
        log=None,
        host: str = "127.0.0.1",
        job_seconds: float = 0.0,
        token_seconds: float = 86400.0,
    ):
        folder = Path(folder).resolve()
        if not (folder / "catalog.duckdb").is_file():
            raise UserError(f"{folder} holds no catalog.duckdb: it must be the archive folder of an embedded run.")
        self.faults = faults or Faults()
        self._host, self._port = host, port
        self._catalog = connect(folder / "catalog.duckdb")  # beside one that is open others open at once
        self._log = Log(log)
        self._casjobs = CasJobs(folder / "catalog.duckdb", release, limits, job_seconds, token_seconds)
        self._services = [
            self._casjobs,
            SkyServer(folder / "catalog.duckdb", release, limits),
            ScienceArchive(folder / "sas"),
        ]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="embedded archive", daemon=True)
        self._started, self._failure = threading.Event(), None

    @property
    def requests(self) -> list[Request]:
        """What was asked, in the order in which it came."""
        return self._log.requests

    @property
    def casjobs(self) -> str:
        """Address of CasJobs."""
        return self.url + casjobs.BASE

    @property
    def login(self) -> str:
        """Address where tokens are given."""
        return self.url + casjobs.LOGIN

    @property
    def skyserver(self) -> str:
        """Address of the SkyServer."""
        return self.url

    @property
    def sas(self) -> str:
        """Address of the Science Archive Server."""
        return self.url + "/sas"

    def settings(self) -> dict[str, str]:
        """The addresses by their configuration keys, those of `config.Archive`."""
        return {"casjobs": self.casjobs, "login": self.login, "skyserver": self.skyserver, "sas": self.sas}

    def give_token(self) -> str:
        """A new token, as a login gives it."""
        return self._casjobs.give_token()

    def start(self) -> "Server":
        """Begin to listen.

        Raises
        ------
        UserError
            Where the port cannot be had.
        """
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._close()
            reason = getattr(self._failure, "strerror", None) or self._failure
            raise UserError(
                f"the embedded archive cannot listen on {self._host}, port {self._port}: {str(reason).rstrip('.')}."
            )
        return self

    def stop(self) -> None:
        """Break off all that is under way; a second time does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._close()

    def _close(self):
        self._thread.join()
        self._casjobs.close()
        self._catalog.close()
        self._log.close()

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    async def _serve(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=LARGEST_QUERY)
        for service in self._services:
            for method, path, kind, handler in service.routes():
                app.router.add_route(method, path, self._answering(kind, handler))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port)
            await site.start()
            host = f"[{self._host}]" if ":" in self._host else self._host  # IPv6
            self.url = f"http://{host}:{runner.addresses[0][1]}"
            self._started.set()
            await self._stop.wait()
        except (OSError, OverflowError) as error:  # OverflowError: a port that cannot be
            self._failure = error
        finally:
            self._started.set()
            await runner.cleanup()

    def _answering(self, kind, handler):
        """A handler that answers a request, with the fault that is assigned to it, and records it."""

        async def answering(request):
            with self._log.request(kind, request.method, request.path) as record:
                wire, job = self.faults.assign(kind)
                record.fault = " ".join(filter(None, (wire, job)))
                if wire == "hang":
                    await self._stop.wait()
                    return web.Response()
                if wire == "expired":
                    self._casjobs.expire(request.headers.get("X-Auth-Token", ""))
                spoiled = wire in BROKEN
                answer = await handler(request, job) if wire is None or spoiled else self.faults.refusal(wire)
                record.status, record.bytes = answer.status, len(answer.body or b"")
                if spoiled:
                    answer, record.bytes = await send_spoiled(request, answer, wire)
                    return answer
                await answer.prepare(request)
                await answer.write_eof()
                return answer

        return answering
