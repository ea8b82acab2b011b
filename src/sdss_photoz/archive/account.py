"""The user's account at SciServer: credentials from the environment, and the token that CasJobs takes."""

import logging
import os
import re

from sdss_photoz.archive import http
from sdss_photoz.archive.http import TransientError
from sdss_photoz.errors import UserError

_log = logging.getLogger(__name__)


class Account:
    """Credentials: SCISERVER_TOKEN, or SCISERVER_USER and SCISERVER_PASSWORD, from the environment.

    Parameters
    ----------
    archive : config.Archive
        Its `login` is the address that issues tokens.
    environment : mapping, optional
        Environment variables; default: those of the process.

    Raises
    ------
    UserError
        If no credentials are set, or only a user or a password, or the token has invalid characters.
    """

    def __init__(self, archive, environment=os.environ):
        self._archive = archive
        self._token = environment.get("SCISERVER_TOKEN", "").strip()
        self._user = environment.get("SCISERVER_USER", "").strip()
        self._password = environment.get("SCISERVER_PASSWORD", "")
        if not (self._token or self._user or self._password):
            raise UserError(
                "archive.service is casjobs, which needs an account at SciServer, but the environment has none: set "
                "SCISERVER_TOKEN, or SCISERVER_USER and SCISERVER_PASSWORD, or set archive.service: skyserver, which "
                "needs no account."
            )
        if not self._token and not (self._user and self._password):
            given, missing = ("USER", "PASSWORD") if self._user else ("PASSWORD", "USER")
            raise UserError(f"SCISERVER_{given} is set, but SCISERVER_{missing} is not: set both, or SCISERVER_TOKEN.")
        if self._token and not _is_token(self._token):
            raise UserError("SCISERVER_TOKEN holds blanks or characters that no token has: copy it once more.")

    def __repr__(self):
        return "Account(…)"  # without credentials

    def token(self) -> str:
        """The token for the next request; logs in if there is none yet."""
        if not self._token:
            self.renew()
        return self._token

    def renew(self) -> None:
        """Log in for a new token.

        Raises
        ------
        UserError
            If user and password are not set, or are refused.
        """
        if not (self._user and self._password):
            raise UserError(
                "SciServer refuses the token of SCISERVER_TOKEN, which is wrong or has expired: set a new one, or "
                "SCISERVER_USER and SCISERVER_PASSWORD, and run again; what came is kept."
            )
        user = {"name": self._user, "password": self._password}
        credentials = {"auth": {"identity": {"password": {"user": user}}}}
        url = self._archive.login

        def attempt():
            response = http.request("POST", url, self._archive, json=credentials)
            if response.status != 403 or http.is_web_page(response.body):  # SciServer's own 403: a wrong password
                http.check_status(response)
            token = response.headers.get("X-Subject-Token", "").strip()
            if response.status < 300 and not _is_token(token):
                raise TransientError("an answer without a token")
            return response.status, token

        status, token = http.with_retries(attempt, url, self._archive, "log in to SciServer")
        if status in (400, 401, 403):
            raise UserError(
                "SciServer refuses the user and password of SCISERVER_USER and SCISERVER_PASSWORD: check that "
                "https://apps.sciserver.org takes them."
            )
        if status >= 300:
            raise UserError(f"{url} answered a log-in with HTTP {status}: check archive.login.")
        self._token = token
        _log.info("logged in to SciServer")

    def redact(self, text: str) -> str:
        """Replace the token in a text from the server, which may repeat it."""
        return text.replace(self._token, "…") if self._token else text


def _is_token(text: str) -> bool:
    """Whether a text is printable ASCII without blanks: other characters are invalid in a header."""
    return re.fullmatch(r"[\x21-\x7e]+", text) is not None
