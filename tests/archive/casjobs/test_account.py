"""Accounts of SciServer: which credentials are needed, when they are renewed, and that none is shown."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pandas as pd
import pytest
import requests
from aiohttp import web
from tests.fixtures.casjobs_client import SECRETS, ask, counts, kept, refusal, settings
from tests.services.server import casjobs as service

from sdss_photoz.archive import http, sciserver
from sdss_photoz.archive.account import Account
from sdss_photoz.config import Archive
from sdss_photoz.errors import UserError


def test_no_account_names_what_to_set_and_the_service_without_one(serve, tmp_path, monkeypatch):
    monkeypatch.delenv("SCISERVER_USER")
    monkeypatch.delenv("SCISERVER_PASSWORD")
    server = serve()
    sentence = refusal(server, tmp_path)
    assert all(
        word in sentence
        for word in ("SCISERVER_TOKEN", "SCISERVER_USER", "SCISERVER_PASSWORD", "archive.service: skyserver")
    )
    assert server.requests == []
    assert kept(tmp_path) == []


def test_half_an_account_names_the_other_half(serve, tmp_path, monkeypatch):
    monkeypatch.delenv("SCISERVER_PASSWORD")
    assert "SCISERVER_PASSWORD is not" in refusal(serve(), tmp_path)


def test_wrong_password_is_one_sentence_and_is_not_tried_again(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("SCISERVER_PASSWORD", "quasars-not-told")
    server = serve()
    sentence = refusal(server, tmp_path)
    assert "refuses the user and password" in sentence
    assert "quasars" not in sentence
    assert counts(server) == {"login": 1}


def test_token_is_enough(serve, direct, tmp_path, monkeypatch):
    server = serve()
    monkeypatch.delenv("SCISERVER_USER")
    monkeypatch.delenv("SCISERVER_PASSWORD")
    monkeypatch.setenv("SCISERVER_TOKEN", server.give_token())
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert counts(server)["login"] == 0


def test_token_that_expires_in_mid_run_is_one_sentence_and_the_job_goes_on_with_a_new_one(
    serve, direct, tmp_path, monkeypatch
):
    server = serve("status:expired@1")
    monkeypatch.delenv("SCISERVER_USER")
    monkeypatch.delenv("SCISERVER_PASSWORD")
    monkeypatch.setenv("SCISERVER_TOKEN", token := server.give_token())
    sentence = refusal(server, tmp_path)
    assert "the token of SCISERVER_TOKEN, which is wrong or has expired" in sentence
    assert token not in sentence
    monkeypatch.setenv("SCISERVER_TOKEN", server.give_token())
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert counts(server)["submit"] == 1


def test_wrong_token_with_a_password_is_replaced(serve, direct, tmp_path, monkeypatch):
    monkeypatch.setenv("SCISERVER_TOKEN", "0123456789abcdef")
    pd.testing.assert_frame_equal(ask(serve(), tmp_path), direct["fields"])


def test_tokens_that_are_always_refused_end_the_run(serve, tmp_path):
    server = serve("expired=1")
    assert "refuses the tokens that SciServer has just given" in refusal(server, tmp_path)
    assert counts(server) == {"login": 3, "tables": 3}


@pytest.mark.parametrize("status", [400, 403, 500])
@pytest.mark.parametrize("words", ["The token is not valid or has expired.", "Unauthorized: invalid token"])
def test_token_refused_with_another_status_than_401_is_renewed(serve, direct, tmp_path, monkeypatch, status, words):
    server, refused, valid = serve(), [], service.CasJobs.refusal

    def refuse(self, request):
        if len(refused) < 2:
            refused.append(request)
            return web.json_response({"Error Code": status, "Error Message": words}, status=status)
        return valid(self, request)

    monkeypatch.setattr(service.CasJobs, "refusal", refuse)
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert (counts(server)["login"], counts(server)["submit"], len(refused)) == (3, 1, 2)


def test_403_of_the_log_in_is_a_wrong_password_unless_it_is_a_page(serve, direct, tmp_path, monkeypatch):
    server = serve("login:403@1")
    pd.testing.assert_frame_equal(ask(server, tmp_path / "page"), direct["fields"])
    assert counts(server)["login"] == 2

    async def refuse(self, request, fault):
        return await _refused("no such user", 403)

    monkeypatch.setattr(service.CasJobs, "log_in", refuse)
    server = serve()
    assert "refuses the user and password" in refusal(server, tmp_path / "word")
    assert counts(server) == {"login": 1}


def test_token_that_would_break_the_header_is_not_shown(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("SCISERVER_TOKEN", "half-a-secret\nother-half")
    sentence = refusal(serve(), tmp_path)
    assert sentence.startswith("SCISERVER_TOKEN holds blanks")
    assert "half" not in sentence


def test_credentials_follow_no_redirect(tmp_path):
    heard = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(self.path)
            self.send_response(307)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    archive = Archive(service="casjobs", login=f"http://127.0.0.1:{server.server_port}/tokens", patience_minutes=0.1)
    with pytest.raises(UserError, match=r"answered a log-in with HTTP 307: check archive\.login\.$"):
        Account(archive).token()
    server.shutdown()
    server.server_close()
    assert heard == ["/tokens"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (requests.exceptions.SSLError, "no secure connection: is its certificate trusted here?"),
        (requests.exceptions.ProxyError, "no connection through the proxy"),
        (requests.ConnectionError, "no connection"),
        (requests.ConnectTimeout, "no answer in time"),
    ],
)
def test_a_connection_that_fails_says_how_and_shows_nothing_of_the_request(error, words):
    assert http.describe_error(error(f"https://{SECRETS[0]}@somewhere")) == words


def test_server_that_repeats_the_token_is_not_quoted(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(service.CasJobs, "tables", lambda self, request, fault: _refused(f"{token} may not"))
    server = serve()
    monkeypatch.setenv("SCISERVER_TOKEN", token := server.give_token())
    assert "HTTP 400: … may not)" in refusal(server, tmp_path)


async def _refused(text, status=400):
    return web.json_response({"Error Code": status, "Error Message": text}, status=status)


def test_objects_that_hold_credentials_do_not_show_them(serve):
    archive = settings(serve())
    account = Account(archive)
    account.renew()
    shown = repr((account, sciserver.CasJobs(archive, None), str(account)))
    assert not any(secret in shown for secret in (*SECRETS, account.token()))
