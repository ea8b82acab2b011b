"""The embedded archive behind real HTTP: login, CasJobs, SkyServer and Science Archive Server."""

from sdss_photoz.embedded.server.casjobs import ACCOUNT
from sdss_photoz.embedded.server.faults import Faults
from sdss_photoz.embedded.server.limits import Limits
from sdss_photoz.embedded.server.log import Request
from sdss_photoz.embedded.server.serve import Server

__all__ = ["ACCOUNT", "Faults", "Limits", "Request", "Server"]
