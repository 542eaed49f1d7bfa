#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Patroni keeps two PostgreSQL servers as one with the help of a server: who is
primary is a key with a lease there, and each follows all by a watch.

    patroni.py [--etcd | --kafka] SERVER

Needs Debian's patroni and postgresql. PostgreSQL does not run as root: as root
the test runs it as the user postgres."""

import glob
import http.client
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from gateway import BROKEN, HOST, Server, arguments, b64, expect, free_ports, poll, run_tests, unb64

# Patroni asks that loop_wait + 2 * retry_timeout be at most ttl.
TIMES = {"ttl": 6, "loop_wait": 1, "retry_timeout": 2}
USER = "postgres"
LIMIT_SEC = 60
SCOPE = "keta"


class Node:
    """A Patroni with its PostgreSQL."""

    def __init__(self, name, top, server):
        self.name, self.top = name, top
        self.port, self.rest_port = free_ports(2)
        self.data = os.path.join(top, name)
        self.config = os.path.join(top, name + ".yml")
        self.log = open(os.path.join(top, name + ".log"), "ab")
        self.process = None
        with open(self.config, "w") as file:
            json.dump(self.settings(server), file)  # which is YAML too

    def settings(self, server):
        rest, database = "%s:%d" % (HOST, self.rest_port), "%s:%d" % (HOST, self.port)
        return {
            "scope": SCOPE, "name": self.name,
            "restapi": {"listen": rest, "connect_address": rest},
            "etcd3": {"host": "%s:%d" % (HOST, server.port)},
            "bootstrap": {
                "dcs": {**TIMES, "postgresql": {"use_pg_rewind": True, "parameters": {
                    "wal_log_hints": "on", "shared_buffers": "16MB", "max_connections": 20}}},
                "initdb": ["no-sync", {"encoding": "UTF8"}, {"locale": "C"}],
                "pg_hba": ["local all all trust", "host all all %s/32 trust" % HOST,
                           "host replication all %s/32 trust" % HOST],
            },
            "postgresql": {
                "listen": database, "connect_address": database, "data_dir": self.data,
                "bin_dir": binaries(), "pgpass": self.data + ".pgpass",
                "authentication": {"superuser": {"username": USER}, "replication": {"username": "replicator"}},
                "parameters": {"unix_socket_directories": self.top, "fsync": "off"},
            },
        }

    def start(self):
        self.process = subprocess.Popen(["patroni", self.config], stdout=self.log, stderr=self.log,
                                        stdin=subprocess.DEVNULL, cwd=self.top, **as_user())

    def asks(self, path, method="GET", body=None):
        """Status and answer of Patroni's own interface; 0 when there is none."""
        connection = http.client.HTTPConnection(HOST, self.rest_port, timeout=LIMIT_SEC)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            return response.status, response.read().decode()
        except BROKEN:
            return 0, ""
        finally:
            connection.close()

    def is_a(self, role):
        expect(self.process.poll() is None, "Patroni %s has ended with %s", self.name, self.process.returncode)
        return self.asks("/" + role)[0] == 200

    def sql(self, text):
        """The rows as lines; None when PostgreSQL refuses."""
        done = subprocess.run(["psql", "-X", "-h", HOST, "-p", str(self.port), "-U", USER, "-Atc", text],
                              capture_output=True, text=True, timeout=LIMIT_SEC)
        return done.stdout.split() if done.returncode == 0 else None

    def postmaster(self):
        try:
            with open(os.path.join(self.data, "postmaster.pid")) as file:
                return int(file.readline())
        except (OSError, ValueError):
            return None

    def kill(self):
        """Both at once, and without a chance to say goodbye."""
        postmaster = self.postmaster()
        self.process.kill()
        self.process.wait()
        if postmaster:
            os.kill(postmaster, signal.SIGKILL)

    def stop(self):
        """Patroni stops its PostgreSQL before it ends."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(LIMIT_SEC)
            except subprocess.TimeoutExpired:
                self.kill()
        self.log.close()


class Cluster:
    def __init__(self, server):
        self.server = server
        self.top = tempfile.mkdtemp(prefix="keta-patroni-")
        if os.geteuid() == 0:
            user = pwd.getpwnam(USER)
            os.chown(self.top, user.pw_uid, user.pw_gid)
        self.nodes = [Node(name, self.top, server) for name in ("one", "two")]
        self.primary, self.replica = self.nodes
        self.rows = 0

    def stop(self, failed):
        for node in (self.replica, self.primary):
            node.stop()
        if failed:
            print("data and logs of PostgreSQL are kept in " + self.top)
        else:
            shutil.rmtree(self.top)

    def write(self):
        """A row on the primary, and waits for it on the replica."""
        self.rows += 1
        # One that is being promoted calls itself primary before it takes a write.
        poll(lambda: self.primary.sql("INSERT INTO rows VALUES (%d)" % self.rows) is not None, LIMIT_SEC,
             "a write on the primary", 0.2)

    def replicated(self):
        return self.replica.sql("SELECT count(*) FROM rows") == [str(self.rows)]

    def swap(self):
        self.primary, self.replica = self.replica, self.primary

    def leader_key(self):
        gateway = self.server.gateway()
        kvs = gateway.must("kv/range", {"key": b64("/service/%s/leader" % SCOPE)}).get("kvs", [])
        gateway.close()
        return (unb64(kvs[0]["value"]).decode(), kvs[0].get("lease")) if kvs else (None, None)


def binaries():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    expect(found, "PostgreSQL is not installed")
    return found[-1]


def as_user():
    return {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}


# ---------------------------------------------------------------- tests

def the_first_becomes_the_primary(cluster):
    cluster.primary.start()
    poll(lambda: cluster.primary.is_a("primary"), LIMIT_SEC, "a primary", 0.2)
    name, lease = cluster.leader_key()
    expect(name == "one" and lease, "the key says %s, with the lease %s", name, lease)
    poll(lambda: cluster.primary.sql("CREATE TABLE rows (number int PRIMARY KEY)") is not None, LIMIT_SEC,
         "a database that can be written", 0.2)


def the_second_becomes_its_replica(cluster):
    cluster.replica.start()
    poll(lambda: cluster.replica.is_a("replica"), LIMIT_SEC, "a replica", 0.2)
    cluster.write()
    poll(cluster.replicated, LIMIT_SEC, "the row on the replica", 0.1)
    expect(cluster.replica.sql("INSERT INTO rows VALUES (0)") is None, "the replica can be written")


def its_control_program_lists_both(cluster):
    done = subprocess.run(["patronictl", "-c", cluster.primary.config, "list", "-f", "json"],
                          capture_output=True, text=True, timeout=LIMIT_SEC, cwd=cluster.top, **as_user())
    expect(done.returncode == 0, "%s", done.stderr)
    roles = {member["Member"]: member["Role"] for member in json.loads(done.stdout)}
    expect(roles == {"one": "Leader", "two": "Replica"}, "%s", roles)


def the_primary_stays_while_nothing_happens(cluster):
    """Longer than the time to live of its lease."""
    before = cluster.leader_key()
    end = time.monotonic() + TIMES["ttl"] + 1

    def changed():
        expect(cluster.leader_key() == before, "the key changed from %s to %s", before, cluster.leader_key())
        return time.monotonic() > end

    poll(changed, LIMIT_SEC, "the end of the lease's time", 0.2)


def the_replica_is_promoted_when_the_primary_dies(cluster):
    cluster.write()
    poll(cluster.replicated, LIMIT_SEC, "the row on the replica", 0.1)
    cluster.primary.kill()
    cluster.swap()
    started = time.monotonic()
    poll(lambda: cluster.primary.is_a("primary"), LIMIT_SEC, "a new primary", 0.2)
    print("a new primary after %.1f s" % (time.monotonic() - started))
    expect(cluster.leader_key()[0] == cluster.primary.name, "the key says %s", cluster.leader_key())
    expect(cluster.primary.sql("SELECT count(*) FROM rows") == [str(cluster.rows)], "rows are lost")
    cluster.write()


def the_old_primary_comes_back_as_a_replica(cluster):
    cluster.replica.start()
    poll(lambda: cluster.replica.is_a("replica"), LIMIT_SEC, "the old primary as replica", 0.2)
    cluster.write()
    poll(cluster.replicated, LIMIT_SEC, "the rows on the old primary", 0.1)
    expect(cluster.primary.is_a("primary"), "it took the lead again")


def a_switchover_swaps_them(cluster):
    status, text = cluster.primary.asks("/switchover", "POST", {"leader": cluster.primary.name,
                                                                "candidate": cluster.replica.name})
    expect(status == 200, "the switchover answered %d %s", status, text)
    cluster.swap()
    poll(lambda: cluster.primary.is_a("primary"), LIMIT_SEC, "the candidate as primary", 0.2)
    poll(lambda: cluster.replica.is_a("replica"), LIMIT_SEC, "the old primary as replica", 0.2)
    cluster.write()
    poll(cluster.replicated, LIMIT_SEC, "the row on the replica", 0.1)


TESTS = [the_first_becomes_the_primary, the_second_becomes_its_replica, its_control_program_lists_both,
         the_primary_stays_while_nothing_happens, the_replica_is_promoted_when_the_primary_dies,
         the_old_primary_comes_back_as_a_replica, a_switchover_swaps_them]


def main():
    options = arguments(__doc__, seeded=False).parse_args()
    server = Server(options, name="keta-patroni-store")
    failed = True
    with server:
        cluster = Cluster(server)
        try:
            failed = run_tests(TESTS, cluster, server)
        finally:
            cluster.stop(failed)
    return failed


if __name__ == "__main__":
    sys.exit(main())
