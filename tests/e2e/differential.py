#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random key-value requests to ketad and to etcd, which must answer the same.

    differential.py KETAD ETCD [--steps N] [--seed N]

Both start empty and get the same requests over the JSON gateway; status and
body must agree, but for what names the server (ids, term) and the wording of
syntax errors. The seed is printed; the first difference ends the run.
"""

import argparse
import base64
import http.client
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

KEYS = [b"a", b"b", b"ab", b"abc", b"b\x00", b"c", b"\x00", b"\xff", b"\xff\xff", b"k1", b"k2", b"k3", b"d/e", b"d/f"]
VALUES = [b"", b"1", b"2", b"value", b"\x00\xff", b"x" * 300]


def b64(data):
    return base64.b64encode(data).decode()


class Maker:
    """Draws requests; knows the revision the servers are at."""

    def __init__(self, rng):
        self.rng = rng
        self.revision = 1
        self.compacted = 0

    def chance(self, share):
        return self.rng.random() < share

    def key(self):
        return b"" if self.chance(0.01) else self.rng.choice(KEYS)

    def span(self):
        out = {"key": b64(self.key())}
        if self.chance(0.6):
            end = self.rng.choice([b"\x00", self.key(), self.key() + b"\x00", b"z", b"\xff\xff\xff"])
            out["range_end"] = b64(end)
        return out

    def some_revision(self):
        return self.rng.choice([0, 1, self.revision, self.revision + 1, -1, self.compacted,
                                self.rng.randint(1, max(1, self.revision))])

    def range(self):
        out = self.span()
        for name in ("keys_only", "count_only", "serializable"):
            if self.chance(0.15):
                out[name] = True
        if self.chance(0.3):
            out["limit"] = self.rng.choice([0, 1, 2, 3, 100, -1, "2"])
        if self.chance(0.3):
            out["revision"] = str(self.some_revision())
        if self.chance(0.3):
            out["sort_order"] = self.rng.choice(["NONE", "ASCEND", "DESCEND", 0, 1, 2, 3])
        if self.chance(0.3):
            out["sort_target"] = self.rng.choice(["KEY", "VERSION", "CREATE", "MOD", "VALUE", 4, 5])
        for name in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if self.chance(0.08):
                out[name] = str(self.rng.randint(-1, self.revision + 1))
        return out

    def put(self):
        out = {"key": b64(self.key())}
        if self.chance(0.9):
            out["value"] = b64(self.rng.choice(VALUES))
        if self.chance(0.2):
            out["prev_kv"] = True
        if self.chance(0.1):
            out["ignore_value"] = True
            if self.chance(0.9):
                out.pop("value", None)
        if self.chance(0.1):
            out["ignore_lease"] = True
        if self.chance(0.02):
            out["lease"] = self.rng.choice(["7", "-1", "0"])
        return out

    def delete(self):
        out = self.span()
        if self.chance(0.7):
            out.pop("range_end", None)
        if self.chance(0.3):
            out["prev_kv"] = True
        return out

    def compare(self):
        out = {"key": b64(self.key())}
        if self.chance(0.2):
            out["range_end"] = b64(self.rng.choice([b"\x00", b"c", b"z"]))
        target = self.rng.choice(["VERSION", "CREATE", "MOD", "VALUE", "LEASE"])
        if self.chance(0.9):
            out["target"] = target
        if self.chance(0.9):
            out["result"] = self.rng.choice(["EQUAL", "GREATER", "LESS", "NOT_EQUAL"])
        union = {"VERSION": "version", "CREATE": "create_revision", "MOD": "mod_revision",
                 "VALUE": "value", "LEASE": "lease"}[target if self.chance(0.95) else "VERSION"]
        if self.chance(0.95):
            out[union] = (b64(self.rng.choice(VALUES)) if union == "value"
                          else str(self.rng.choice([0, 1, 2, self.revision, self.some_revision()])))
        return out

    def op(self, depth):
        draw = self.rng.random()
        if draw < 0.35:
            return {"request_put": self.put()}
        if draw < 0.65:
            return {"request_range": self.range()}
        if draw < 0.8:
            return {"request_delete_range": self.delete()}
        if draw < 0.98 and depth < 3:
            return {"request_txn": self.txn(depth + 1)}
        return {} if self.chance(0.2) else {"request_range": self.range()}

    def txn(self, depth=0):
        out = {}
        for name, make, most in (("compare", self.compare, 2), ("success", lambda: self.op(depth), 3),
                                 ("failure", lambda: self.op(depth), 2)):
            if self.chance(0.8):
                out[name] = [make() for _ in range(self.rng.randint(0, most))]
        return out

    def compaction(self):
        return {"revision": str(self.some_revision()), "physical": self.chance(0.5)}

    def request(self):
        draw = self.rng.random()
        if draw < 0.35:
            return "/v3/kv/put", self.put()
        if draw < 0.65:
            return "/v3/kv/range", self.range()
        if draw < 0.75:
            return "/v3/kv/deleterange", self.delete()
        if draw < 0.98:
            return "/v3/kv/txn", self.txn()
        return "/v3/kv/compaction", self.compaction()


def crashes_etcd(body):
    """A deletion to the end of the key space with a put that builds on a key: etcd panics on
    some of these, at every restart again."""
    text = json.dumps(body)
    return "ignore_" in text and '"range_end": "AA=="' in text and "request_delete_range" in text


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, command, directory, peer_flags):
        self.port = free_port()
        url = "http://127.0.0.1:%d" % self.port
        args = [command, "--data-dir", directory, "--listen-client-urls", url, "--advertise-client-urls", url]
        if peer_flags:
            args += ["--listen-peer-urls", "http://127.0.0.1:%d" % free_port(), "--log-level", "error"]
        self.process = subprocess.Popen(args, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.connection = None
        for _ in range(200):
            try:
                if self.ask("/v3/kv/range", {"key": "YQ=="})[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit("%s did not start" % command)

    def ask(self, path, body):
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            self.connection.request("POST", path, json.dumps(body))
            reply = self.connection.getresponse()
            return reply.status, json.loads(reply.read())
        except OSError:
            self.connection.close()
            self.connection = None
            raise

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def normal(body):
    header = body.get("header") if isinstance(body, dict) else None
    if header:
        for name in ("cluster_id", "member_id", "raft_term"):
            header.pop(name, None)
    if isinstance(body, dict) and str(body.get("message", "")).replace("\u00a0", " ").startswith("proto:"):
        body["message"] = "syntax"
    return body


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ketad")
    parser.add_argument("etcd")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    print("seed %d" % options.seed)
    maker = Maker(random.Random(options.seed))
    directory = tempfile.mkdtemp(prefix="differential-")
    ours = theirs = None
    failed = 0
    step = 0
    try:
        ours = Server(options.ketad, directory + "/ours", False)
        theirs = Server(options.etcd, directory + "/theirs", True)
        while step < options.steps and not failed:
            path, body = maker.request()
            if crashes_etcd(body):
                continue
            step += 1
            mine, wanted = ours.ask(path, body), theirs.ask(path, body)
            if mine[0] != wanted[0] or normal(mine[1]) != normal(wanted[1]):
                failed = 1
                print("step %d: %s %s" % (step, path, json.dumps(body)))
                print("  etcd:  %d %s" % (wanted[0], json.dumps(wanted[1])))
                print("  ketad: %d %s" % (mine[0], json.dumps(mine[1])))
            revision = int((wanted[1].get("header") or {}).get("revision", 0))
            maker.revision = max(maker.revision, revision)
            if path == "/v3/kv/compaction" and wanted[0] == 200:
                maker.compacted = int(body["revision"])
    finally:
        for server in (ours, theirs):
            if server:
                server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    print("%d passed, %d failed" % (step - failed, failed))
    return failed


if __name__ == "__main__":
    sys.exit(main())
