#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Three nodes while Kafka is away, and a node while its disk is full: requests are
answered in time, as etcd would, the probes tell the truth, no lease ends for it,
and everything goes on by itself afterwards.

    kafka_outage.py [--kafka VERSION] [--test NAME]... KETAD

The tests of disks mount a small file system, for which they must be root."""

import json
import os
import subprocess
import sys
import threading
import time

from gateway import Failure, HttpStream, b64, expect, poll, result_of, unb64
from kafka import KafkaCluster
from kafka_node import READY_LIMIT_SEC, Node, World, arguments, chosen, hashes, leader_of, run_tests

NODES = 3
SERVER_LIMIT_SEC = 7
SLACK_SEC = 1.0
NOTICE_LIMIT_SEC = 15
RESUME_LIMIT_SEC = 10
LEASE_TTL_SEC = 5
OUTAGE_SEC = 20  # several times the lease's
UNAVAILABLE = 14
DISK_BYTES = 16 << 20


class Cluster:
    """Three nodes, each with links to Kafka of its own, some data, a watch and a lease."""

    def __init__(self, world):
        self.world, self.prefix = world, world.prefix()
        self.nodes = [Node(world, self.prefix, "n%d" % number, servers=world.kafka.bootstrap_for(number))
                      for number in range(NODES)]
        for node in self.nodes:
            node.start()
        self.nodes[0].put("a", "1")
        leader_of(self.nodes)
        hashes(self.nodes)
        self.pids = [node.process.pid for node in self.nodes]
        self.watches = [HttpStream(node.port, "/v3/watch", {"create_request": {
            "key": b64("watched"), "range_end": b64("watchee")}}) for node in self.nodes]
        for watch in self.watches:
            expect(result_of(watch.next(10)).get("created"), "the watch was not created")
        self.events = 0
        self.lease = self.nodes[1].must("lease/grant", {"TTL": LEASE_TTL_SEC})["ID"]
        self.nodes[1].put("leased", "1", lease=self.lease)

    def expect_watches(self):
        """Each sees the next event, and no other."""
        self.events += 1
        value = "event %d" % self.events
        self.nodes[self.events % NODES].put("watched", value)
        for watch in self.watches:
            events = result_of(watch.next(10))["events"]
            expect([unb64(event["kv"]["value"]).decode() for event in events] == [value], "the watch says %s", events)

    def keep_alive(self):
        answer = self.nodes[2].must("lease/keepalive", {"ID": self.lease})
        expect(int(answer["result"].get("TTL", 0)) == LEASE_TTL_SEC, "the lease is gone: %s", answer)

    def expect_well(self, limit_sec=RESUME_LIMIT_SEC):
        """All is as it was, with the same processes. A new leader may have to wait for the old one's session to end."""
        begun = time.monotonic()
        poll(lambda: all(node.get("/readyz")[0] == 200 for node in self.nodes), limit_sec, "all nodes ready")
        ready = time.monotonic() - begun
        expect([node.process.pid for node in self.nodes] == self.pids, "a node was started again")
        for number, node in enumerate(self.nodes):
            node.put("after-%d" % number, "1")
            expect(node.get("/health")[0] == 200, "/health of %s", node.name)
            expect(node.read("a") == "1", "%s has lost the key", node.name)
        self.keep_alive()
        self.expect_watches()
        expect(len(set(hashes(self.nodes))) == 1, "the hashes differ")
        served = time.monotonic() - begun
        expect(served < limit_sec, "writes and watches took %.1f s to go on", served)
        leader_of(self.nodes)
        print("    ready after %.1f s, all served after %.1f s, led after %.1f s" % (
            ready, served, time.monotonic() - begun), flush=True)

    def close(self):
        for watch in self.watches:
            watch.close()


def expect_timeout(node, method, body, client_ms=None):
    """It ends within its deadline with etcd's words."""
    begun = time.monotonic()
    status, answer = node.call(method, body, headers={"Grpc-Timeout": "%dm" % client_ms} if client_ms else None)
    took = time.monotonic() - begun
    limit = (client_ms / 1000 if client_ms else SERVER_LIMIT_SEC) + SLACK_SEC
    expect(took < limit, "%s: %s took %.1f s", node.name, method, took)
    if client_ms:
        expect(status in (503, 504) and answer.get("code") in (4, UNAVAILABLE), "%s: %s answered %s %s",
               node.name, method, status, answer)
    else:
        expect(status == 503 and answer.get("code") == UNAVAILABLE and
               answer.get("message") == "etcdserver: request timed out", "%s: %s answered %s %s",
               node.name, method, status, answer)


def in_parallel(calls):
    """Each is a function; a Failure of any is raised."""
    failures = []

    def guarded(call):
        try:
            call()
        except Failure as error:
            failures.append(error)
    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def expect_away(nodes):
    """Of nodes that cannot reach Kafka."""
    put, get = {"key": b64("a"), "value": b64("2")}, {"key": b64("a")}
    calls = []
    for node in nodes:
        calls += [lambda n=node: expect_timeout(n, "kv/put", dict(put, key=b64("maybe"))),
                  lambda n=node: expect_timeout(n, "kv/range", get),
                  lambda n=node: expect_timeout(n, "kv/put", dict(put, key=b64("maybe")), 1500),
                  lambda n=node: expect_timeout(n, "kv/range", get, 1500),
                  lambda n=node: expect_serializable(n), lambda n=node: expect_probes(n)]
    in_parallel(calls)


def expect_serializable(node):
    begun = time.monotonic()
    expect(node.read("a", serializable=True) == "1", "%s: serializable reads do not go on", node.name)
    took = time.monotonic() - begun
    expect(took < SLACK_SEC, "%s: a serializable read took %.1f s", node.name, took)
    expect(node.get("/livez")[0] == 200, "%s: /livez says that the process is no good", node.name)


def expect_probes(node):
    for path in ("/health", "/readyz"):
        poll(lambda each=path: node.get(each, SERVER_LIMIT_SEC + 2)[0] == 503, NOTICE_LIMIT_SEC,
             "%s: 503 from %s" % (node.name, path))
    expect(json.loads(node.get("/health")[1])["health"] == "false", "%s: /health", node.name)


def go_through(world, away, back):
    """An outage that is longer than a lease lives."""
    cluster = Cluster(world)
    try:
        cluster.expect_watches()
        cluster.keep_alive()
        begun = time.monotonic()
        away()
        expect_away(cluster.nodes)
        poll(lambda: time.monotonic() > begun + OUTAGE_SEC, OUTAGE_SEC + 1, "the end of the outage")
        for node in cluster.nodes:
            expect(node.read("leased", serializable=True) == "1", "the lease ended in the outage")
        back()
        cluster.expect_well()
        expect(cluster.nodes[0].read("leased") == "1", "the lease ended after the outage")
        # Kept alive it goes on; let go it ends.
        poll(lambda: cluster.nodes[0].read("leased") is None, LEASE_TTL_SEC * 3, "the end of the lease", pause_sec=0.3)
    finally:
        cluster.close()


def a_paused_broker(world):
    go_through(world, lambda: world.kafka.pause(0), lambda: world.kafka.resume(0))


def a_killed_broker(world):
    go_through(world, lambda: world.kafka.kill(0), lambda: world.kafka.restart(0))


def cut_links(world):
    go_through(world, world.kafka.proxy.cut, world.kafka.proxy.heal)


def stalled_links(world):
    go_through(world, world.kafka.proxy.stall, world.kafka.proxy.heal)


def stalled_answers(world):
    go_through(world, lambda: world.kafka.proxy.stall(what="answers"), world.kafka.proxy.heal)


def one_node_cut_off(world):
    """The others, one of whom must lead, do not notice."""
    cluster = Cluster(world)
    try:
        lost = cluster.nodes.index(leader_of(cluster.nodes))
        others = [node for node in cluster.nodes if node is not cluster.nodes[lost]]
        world.kafka.proxy.cut(node=lost)
        done = threading.Event()
        failures = []

        def write():
            while not done.is_set():
                for node in others:
                    begun = time.monotonic()
                    status, answer = node.call("kv/put", {"key": b64("busy"), "value": b64("1")})
                    took = time.monotonic() - begun
                    if status != 200 or took > SLACK_SEC:
                        failures.append("%s: %s %s after %.1f s" % (node.name, status, answer, took))
                others[0].call("lease/keepalive", {"ID": cluster.lease})
                if done.wait(0.05):
                    return
        writer = threading.Thread(target=write)
        writer.start()
        try:
            expect_away([cluster.nodes[lost]])
            leader_of(others)
            lease = others[0].must("lease/grant", {"TTL": 2})["ID"]
            others[0].put("short", "1", lease=lease)
            poll(lambda: others[0].read("short") is None, 20, "the end of a lease without the old leader",
                 pause_sec=0.3)
        finally:
            done.set()
            writer.join()
        expect(not failures, "%d writes of the others failed: %s", len(failures), failures[:3])
        world.kafka.proxy.heal()
        cluster.keep_alive()
        cluster.expect_well()
    finally:
        cluster.close()


# ---------------------------------------------------------------- disks

class Disk:
    """A small file system in memory where a node keeps its data."""

    def __init__(self, path, size=DISK_BYTES):
        self.path, self.size = path, size
        os.makedirs(path, exist_ok=True)
        self.mount("-t", "tmpfs", "-o", "size=%d,mode=700" % size, "none")

    def mount(self, *arguments):
        subprocess.run(["mount", *arguments, self.path], check=True, stdin=subprocess.DEVNULL)

    def remount(self, options):
        self.mount("-o", "remount," + options)

    def fill(self):
        """Takes all the room that is left."""
        with open(os.path.join(self.path, "ballast"), "wb", buffering=0) as out:
            for block in (1 << 20, 1 << 12):
                try:
                    while True:
                        out.write(b"x" * block)
                except OSError:
                    pass

    def free(self):
        os.unlink(os.path.join(self.path, "ballast"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=False)


def with_disk(world, away, back):
    """Node 0 loses its disk; the others are unharmed, and it comes back by itself."""
    expect(os.geteuid() == 0, "one must be root to mount a file system")
    prefix = world.prefix()
    nodes = [Node(world, prefix, "n%d" % number) for number in range(NODES)]
    with Disk(nodes[0].data) as disk:
        try:
            for node in nodes:
                node.start()
            nodes[0].put("a", "1")
            hashes(nodes)
            pid = nodes[0].process.pid
            away(disk)
            # What is written goes to all, and some of it must find no room.
            begun = time.monotonic()
            number = 0
            while nodes[0].get("/health")[0] == 200:
                number += 1
                expect(time.monotonic() < begun + READY_LIMIT_SEC, "%d writes found room", number)
                status, answer = nodes[1].call("kv/put", {"key": b64("big-%d" % (number % 50)),
                                                          "value": b64("x" * 50000)})
                expect(status == 200, "an unharmed node answered %s %s", status, answer)
            status, answer = nodes[0].call("kv/put", {"key": b64("lost"), "value": b64("1")})
            expect(status in (429, 503), "the write of the node without disk was answered %s %s", status, answer)
            status, answer = nodes[0].call("kv/range", {"key": b64("a")})
            expect(status == 503, "the linearizable read of the node without disk was answered %s %s", status, answer)
            expect(nodes[0].read("a", serializable=True) == "1", "serializable reads do not go on")
            expect(nodes[0].get("/readyz")[0] == 503, "/readyz is well")
            print("    told: %s" % nodes[0].get("/health")[1].strip()[:200], flush=True)
            for node in nodes[1:]:
                begun = time.monotonic()
                node.put("unharmed", node.name)
                expect(node.read("unharmed") == node.name and node.get("/readyz")[0] == 200, "%s is harmed", node.name)
                expect(time.monotonic() - begun < SLACK_SEC, "%s is slow", node.name)
            leader_of(nodes[1:])  # one that cannot keep what it expires is no leader
            lease = nodes[1].must("lease/grant", {"TTL": 2})["ID"]
            nodes[1].put("short", "1", lease=lease)
            poll(lambda: nodes[1].read("short") is None, 30, "the end of a lease", pause_sec=0.3)
            back(disk)
            returned = time.monotonic()
            poll(lambda: nodes[0].get("/readyz")[0] == 200, RESUME_LIMIT_SEC, "the node back")
            print("    ready %.1f s after the return" % (time.monotonic() - returned), flush=True)
            nodes[0].put("after", "1")
            expect(nodes[0].process.pid == pid, "it was started again")
            expect(len(set(hashes(nodes))) == 1, "the hashes differ")
            expect(len(nodes[0].find("could not be committed")) < 10, "it floods its log")
        finally:
            nodes[0].kill()


def a_full_disk(world):
    with_disk(world, lambda disk: disk.fill(), lambda disk: disk.free())


def a_disk_that_cannot_be_grown(world):
    """Full for want of size, and made larger."""
    with_disk(world, lambda disk: disk.remount("size=1m"), lambda disk: disk.remount("size=64m"))


TESTS = [
    a_paused_broker, cut_links, stalled_links, stalled_answers, a_killed_broker, one_node_cut_off, a_full_disk,
    a_disk_that_cannot_be_grown,
]


def main():
    options = arguments(__doc__, TESTS).parse_args()
    with KafkaCluster(version=options.kafka, proxied_nodes=NODES) as kafka, World(options.ketad, kafka) as world:
        return run_tests(chosen(options, TESTS), world)


if __name__ == "__main__":
    sys.exit(main())
