#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills a server again and again while clients write, and checks after each
restart that it kept its word: every acknowledged write is there with its
revision, no transaction is there in part, no counter has lost or gained a step,
the revision never goes back, and the server is up again within seconds.

    crash.py [--rounds N] [--seed N] SERVER [OPTION...]

In an OPTION, {port} and {peer} stand for two free ports. SERVER is started with
--data-dir and --listen-client-urls after the options, so any server of etcd's
interface will do:

    crash.py ./ketad
    crash.py etcd --advertise-client-urls http://127.0.0.1:{port} \\
        --listen-peer-urls http://127.0.0.1:{peer}
"""
import argparse
import base64
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

COUNTERS = 3
GROUP = ("a", "b", "c", "d")
START_LIMIT_SEC = 20
PAGE = 5000
CLEAN_EVERY = 10  # rounds after which all keys are deleted, to bound the listings


class Mismatch(Exception):
    """The server did not keep its word."""


def b64(text):
    return base64.b64encode(text.encode()).decode()


def text(coded):
    return base64.b64decode(coded).decode()


class Client:
    """One connection, kept open."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def call(self, method, body):
        """The answer, or OSError/HTTPException when the connection broke."""
        self.connection.request("POST", "/v3/" + method, json.dumps(body))
        response = self.connection.getresponse()
        data = response.read()
        return response.status, json.loads(data)

    def must(self, method, body):
        status, answer = self.call(method, body)
        if status != 200:
            raise Mismatch(f"{method} answered {status} {answer}")
        return answer

    def close(self):
        self.connection.close()


class Expected:
    """What must be there. A value of None is a key that must not be."""

    def __init__(self):
        self.lock = threading.Lock()
        self.keys = {}  # key: (value, revision)
        self.doubts = []  # lists of (key, value) that happened together or not at all
        self.steps = [0] * COUNTERS  # acknowledged
        self.step_doubts = [0] * COUNTERS
        self.revision = 0  # the highest ever seen in an answer
        self.acknowledged = 0

    def saw(self, answer):
        self.revision = max(self.revision, int(answer["header"]["revision"]))

    def acknowledge(self, changes, answer):
        with self.lock:
            self.saw(answer)
            revision = int(answer["header"]["revision"])
            for key, value in changes:
                self.keys[key] = (value, revision)
            self.acknowledged += 1

    def doubt(self, changes):
        with self.lock:
            self.doubts.append(changes)


class Writer(threading.Thread):
    """Writes until the connection breaks: what was under way then is in doubt."""

    def __init__(self, number, life, port, expected, seed):
        super().__init__(daemon=True)
        self.name = f"{number}.{life}"
        self.port = port
        self.expected = expected
        self.random = random.Random(seed)
        self.count = 0
        self.own = []
        self.failure = None
        self.killed = threading.Event()

    def run(self):
        client = Client(self.port)
        try:
            while True:
                self.step(client)
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            if not self.killed.wait(5):
                self.failure = f"the connection broke before the kill: {error!r}"
        except Mismatch as error:
            self.failure = str(error)
        finally:
            client.close()

    def step(self, client):
        kind = self.random.random()
        self.count += 1
        if kind < 0.45:
            self.put(client)
        elif kind < 0.65:
            self.put_group(client)
        elif kind < 0.85:
            self.count_up(client)
        elif kind < 0.98:
            self.delete(client)
        else:
            self.compact(client)

    def change(self, client, method, body, changes):
        try:
            answer = client.must(method, body)
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            self.expected.doubt(changes)
            raise
        self.expected.acknowledge(changes, answer)

    def put(self, client):
        key = f"u/{self.name}/{self.count}"
        value = str(self.random.random()) * self.random.choice((1, 1, 1, 1, 100))
        self.own.append(key)
        self.change(client, "kv/put", {"key": b64(key), "value": b64(value)}, [(key, value)])

    def put_group(self, client):
        value = str(self.random.random())
        keys = [f"m/{self.name}/{self.count}/{part}" for part in GROUP]
        puts = [{"request_put": {"key": b64(key), "value": b64(value)}} for key in keys]
        self.change(client, "kv/txn", {"success": puts}, [(key, value) for key in keys])

    def delete(self, client):
        if not self.own:
            return
        key = self.own.pop(self.random.randrange(len(self.own)))
        self.change(client, "kv/deleterange", {"key": b64(key)}, [(key, None)])

    def count_up(self, client):
        number = self.random.randrange(COUNTERS)
        key = b64(f"c/{number}")
        found = client.must("kv/range", {"key": key}).get("kvs", [])
        value = int(text(found[0]["value"])) if found else 0
        compare = {"key": key, "target": "MOD", "result": "EQUAL",
                   "mod_revision": found[0]["mod_revision"] if found else "0"}
        put = {"request_put": {"key": key, "value": b64(str(value + 1))}}
        try:
            answer = client.must("kv/txn", {"compare": [compare], "success": [put]})
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            with self.expected.lock:
                self.expected.step_doubts[number] += 1
            raise
        with self.expected.lock:
            self.expected.saw(answer)
            self.expected.steps[number] += answer.get("succeeded", False)
            self.expected.acknowledged += 1

    def compact(self, client):
        revision = max(1, self.expected.revision - self.random.randrange(500))
        status, answer = client.call("kv/compaction", {"revision": revision})
        if status != 200 and answer.get("code") != 11:  # out of range: someone was faster
            raise Mismatch(f"compaction answered {status} {answer}")


def list_all(client, revision):
    """Every key as of one revision, in pages."""
    keys, start, more = {}, "\0", True
    while more:
        answer = client.must("kv/range", {"key": b64(start), "range_end": b64("\0"), "limit": PAGE,
                                          "revision": revision})
        for kv in answer.get("kvs", []):
            keys[text(kv["key"])] = (text(kv.get("value", "")), int(kv["mod_revision"]))
        more = answer.get("more", False)
        if more:
            start = text(answer["kvs"][-1]["key"]) + "\0"
    return keys


def settle_doubts(expected, found):
    """Decides what happened to the writes under way; each is there wholly or not."""
    for changes in expected.doubts:
        happened = {(found[key][0] if key in found else None) == value for key, value in changes}
        if len(happened) != 1:
            raise Mismatch(f"a transaction is there in part: {changes}")
        for key, value in changes if happened.pop() else []:
            expected.keys[key] = (value, found[key][1] if value is not None else 0)
    expected.doubts = []


def check_counters(expected, found):
    for number in range(COUNTERS):
        value = int(found.pop(f"c/{number}", ("0", 0))[0])
        low = expected.steps[number]
        if not low <= value <= low + expected.step_doubts[number]:
            raise Mismatch(f"counter {number} is {value}, but {low} steps were acknowledged and "
                           f"{expected.step_doubts[number]} are in doubt")
        expected.steps[number] = value
        expected.step_doubts[number] = 0


def check(client, expected):
    answer = client.must("kv/range", {"key": b64("c/0")})
    revision = int(answer["header"]["revision"])
    if revision < expected.revision:
        raise Mismatch(f"the revision went back from {expected.revision} to {revision}")
    expected.revision = revision
    found = list_all(client, revision)
    check_counters(expected, found)
    settle_doubts(expected, found)
    wanted = {key: what for key, what in expected.keys.items() if what[0] is not None}
    lost = wanted.keys() - found.keys()
    risen = found.keys() - wanted.keys()
    changed = [key for key in wanted.keys() & found.keys() if wanted[key] != found[key]]
    if lost or risen or changed:
        raise Mismatch(f"{len(lost)} keys lost {sorted(lost)[:3]}, {len(risen)} too many "
                       f"{sorted(risen)[:3]}, {len(changed)} differ {sorted(changed)[:3]}")


def clean(client, expected):
    answer = client.must("kv/deleterange", {"key": b64("d"), "range_end": b64("\0")})
    expected.keys.clear()
    expected.saw(answer)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Server:
    def __init__(self, command, directory, log):
        self.port, peer = free_ports(2)
        options = [part.replace("{port}", str(self.port)).replace("{peer}", str(peer)) for part in command]
        self.process = subprocess.Popen(
            options + ["--data-dir", directory, "--listen-client-urls", f"http://127.0.0.1:{self.port}"],
            stdout=log, stderr=log)

    def wait(self):
        """Returns the seconds until it answered a linearizable read."""
        started = time.monotonic()
        while True:
            if self.process.poll() is not None:
                raise Mismatch(f"the server ended with {self.process.returncode} at start")
            client = Client(self.port)
            try:
                client.must("kv/range", {"key": b64("c/0")})
                return time.monotonic() - started
            except (OSError, http.client.HTTPException, json.JSONDecodeError, Mismatch):
                if time.monotonic() - started > START_LIMIT_SEC:
                    raise Mismatch(f"no answer {START_LIMIT_SEC} seconds after the start") from None
                time.sleep(0.02)
            finally:
                client.close()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def run_round(number, options, directory, log, expected, chance):
    """One life of the server: check, write, kill. The seconds it took to start."""
    server = Server(options.command, directory, log)
    try:
        took = server.wait()
        client = Client(server.port)
        check(client, expected)
        if number % CLEAN_EVERY == CLEAN_EVERY - 1:
            clean(client, expected)
        client.close()
        writers = [Writer(i, number, server.port, expected, chance.random()) for i in range(options.writers)]
        for writer in writers:
            writer.start()
        time.sleep(chance.uniform(0.05, options.life))
    finally:
        server.kill()
    for writer in writers:
        writer.killed.set()
    for writer in writers:
        writer.join()
        if writer.failure is not None:
            raise Mismatch(writer.failure)
    return took


def run(options, directory, log):
    expected, chance = Expected(), random.Random(options.seed)
    passed = failed = 0
    slowest = 0.0
    for number in range(options.rounds):
        try:
            took = run_round(number, options, directory, log, expected, chance)
            slowest = max(slowest, took)
            passed += 1
            print(f"round {number + 1}: up after {took:.2f} s, {expected.acknowledged} writes acknowledged "
                  f"so far, revision {expected.revision}", flush=True)
        except Mismatch as error:
            failed += 1
            print(f"round {number + 1}: FAILED: {error}", flush=True)
            break
    if failed == 0:
        # The last kill is checked too.
        server = Server(options.command, directory, log)
        try:
            server.wait()
            check(Client(server.port), expected)
        except Mismatch as error:
            failed, passed = 1, passed - 1
            print(f"after the last round: FAILED: {error}", flush=True)
        finally:
            server.kill()
    print(f"slowest start {slowest:.2f} s, {expected.acknowledged} writes acknowledged")
    print(f"{passed} passed, {failed} failed")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--writers", type=int, default=6)
    parser.add_argument("--life", type=float, default=1.0, help="the longest time until the kill, seconds")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="SERVER [OPTION...]")
    options = parser.parse_args()
    if not options.command:
        parser.error("no server named")
    print(f"seed {options.seed}", flush=True)
    directory = tempfile.mkdtemp(prefix="keta-crash-")
    with open(os.path.join(directory, "server.log"), "wb") as log:
        failed = run(options, os.path.join(directory, "data"), log)
    if failed:
        print(f"data and log are kept in {directory}")
    else:
        shutil.rmtree(directory)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
