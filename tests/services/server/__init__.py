"""The embedded archive behind real HTTP: login, CasJobs, SkyServer and Science Archive Server."""

from tests.services.server.casjobs import ACCOUNT
from tests.services.server.faults import Faults
from tests.services.server.limits import Limits
from tests.services.server.log import Request
from tests.services.server.serve import Server

__all__ = ["ACCOUNT", "Faults", "Limits", "Request", "Server"]
