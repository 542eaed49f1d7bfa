#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random requests to ketad and to etcd, which must answer the same.

    differential.py KETAD ETCD [--steps N] [--seed N]

Both start empty and get the same requests over the JSON gateway: keys, leases,
and now and then a watch from some revision on. Status and body must agree, but
for what names the server (ids, term), what passes by while one waits (time to
live), how a watch's events are put into messages, and the wording of syntax
errors. The seed is printed; the first difference ends the run.
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
LEASES = [1, 2, 3, 7, -1, 4096]
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
        if self.chance(0.2):
            out["lease"] = str(self.rng.choice(LEASES + [0]))
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

    def lease(self):
        """Times to live are long: none of these ends by itself."""
        lease = {"ID": str(self.rng.choice(LEASES))}
        draw = self.rng.random()
        if draw < 0.4:
            ttl = self.rng.choice([100000, 200000, 9000000000, 9000000001, 1 << 62])
            return "/v3/lease/grant", dict(lease, TTL=str(ttl))
        if draw < 0.6:
            return self.rng.choice(["/v3/lease/revoke", "/v3/kv/lease/revoke"]), lease
        if draw < 0.8:
            return "/v3/lease/timetolive", dict(lease, keys=self.chance(0.7))
        if draw < 0.9:
            return "/v3/lease/leases", {}
        return "/v3/lease/keepalive", lease

    def watch(self):
        out = self.span()
        out["start_revision"] = str(self.some_revision())
        for name in ("prev_kv", "fragment"):
            if self.chance(0.4):
                out[name] = True
        if self.chance(0.3):
            out["filters"] = [self.rng.choice(["NOPUT", "NODELETE"])]
        return out

    def request(self):
        draw = self.rng.random()
        if draw < 0.12:
            return self.lease()
        if draw < 0.13:
            return "/v3/watch", self.watch()
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

    def watch(self, body):
        """What the watch is told, up to a put and a deletion of its first key that are made when it
        is open: its answers, and all events in one list."""
        stream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        stream.request("POST", "/v3/watch", json.dumps({"create_request": body}))
        reply = stream.getresponse()
        messages, events = [json.loads(reply.readline())], []
        last = "PUT" if "NODELETE" in body.get("filters", ()) else "DELETE"
        if not messages[0]["result"].get("canceled"):
            until = self.touch(body["key"] or "AA==")[last]
            while not any(int(e["kv"]["mod_revision"]) >= until for e in events):
                message = json.loads(reply.readline())
                if message.get("result", {}).get("events"):
                    events += message["result"]["events"]
                else:
                    messages.append(message)
                    break
        stream.close()
        return [reply.status, [normal(m.get("result", m)) for m in messages], events]

    def revision(self):
        return int(self.ask("/v3/kv/range", {"key": "YQ=="})[1]["header"]["revision"])

    def touch(self, key):
        put = self.ask("/v3/kv/put", {"key": key, "value": "dA=="})
        delete = self.ask("/v3/kv/deleterange", {"key": key})
        return {"PUT": int(put[1]["header"]["revision"]), "DELETE": int(delete[1]["header"]["revision"])}

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def normal(body):
    if isinstance(body, dict) and "result" in body:
        return {"result": normal(body["result"])}
    header = body.get("header") if isinstance(body, dict) else None
    if header:
        for name in ("cluster_id", "member_id", "raft_term"):
            header.pop(name, None)
    if isinstance(body, dict) and str(body.get("message", "")).replace("\u00a0", " ").startswith("proto:"):
        body["message"] = "syntax"
    return body


def is_same(path, mine, wanted):
    if path == "/v3/lease/timetolive":
        if abs(int(mine.pop("TTL", 0)) - int(wanted.pop("TTL", 0))) > 3:
            return False
        return sorted(mine.pop("keys", [])) == sorted(wanted.pop("keys", [])) and mine == wanted
    if path == "/v3/lease/leases":
        ids = [sorted(lease["ID"] for lease in body.pop("leases", [])) for body in (mine, wanted)]
        return ids[0] == ids[1] and mine == wanted
    return mine == wanted


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
            if path == "/v3/watch":
                mine, wanted = ours.watch(body), theirs.watch(body)
                equal = mine == wanted
                maker.revision = max(maker.revision, theirs.revision())
            else:
                mine, wanted = ours.ask(path, body), theirs.ask(path, body)
                equal = mine[0] == wanted[0] and is_same(path, normal(mine[1]), normal(wanted[1]))
            if not equal:
                failed = 1
                print("step %d: %s %s" % (step, path, json.dumps(body)))
                print("  etcd:  %s" % json.dumps(wanted))
                print("  ketad: %s" % json.dumps(mine))
            if path == "/v3/watch":
                continue
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
