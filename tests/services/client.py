"""Bare clients of the stand-in services."""

import time

import requests

SEARCH = "/dr12/en/tools/search/x_results.aspx"


EVERY_TYPE = (
    "SELECT p.objID, p.camcol, p.run, p.ra, p.petroMag_r, s.class, s.z, n.neighborObjID FROM PhotoObjAll p "
    "JOIN SpecObjAll s ON s.bestObjID = p.objID LEFT JOIN Neighbors n ON n.objID = p.objID {} "
    "ORDER BY p.objID, s.specObjID, n.neighborObjID"
)


ENDLESS = "FROM {0} a, {0} b, {0} c, {0} d WHERE a.ra < b.ra + c.ra * d.ra"


class Client:
    """A bare client of CasJobs."""

    def __init__(self, server, context="DR12"):
        self.url, self.context = server.casjobs, context
        self.headers = {"X-Auth-Token": server.give_token()}

    def call(self, method, path, sql=None, accept="text/plain", task="test"):
        body = None if sql is None else {"Query": sql, "TaskName": task}
        headers = self.headers | {"Accept": accept}
        return requests.request(method, f"{self.url}/{path}", json=body, headers=headers, timeout=20)

    def submit(self, sql, **options):
        return int(self.call("PUT", f"contexts/{self.context}/jobs", sql, **options).text)

    def job(self, number):
        return self.call("GET", f"jobs/{number}").json()

    def wait(self, number):
        while (job := self.job(number))["Status"] < 3:
            time.sleep(0.02)
        return job

    def mydb(self, sql, accept="text/plain"):
        return self.call("POST", "contexts/MyDB/query", sql, accept)


def search(server, sql, kind="csv"):
    return requests.get(server.skyserver + SEARCH, params={"cmd": sql, "format": kind}, timeout=20)


def log_in(server, name, password):
    user = {"auth": {"identity": {"password": {"user": {"name": name, "password": password}}}}}
    return requests.post(server.login, json=user, timeout=20)
