#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures nodes of a replicated store beside the bare limits of Kafka, and prints one table.

It runs a Kafka of one broker. As in bench.py, what is compared runs in turns, round by
round, and ratios are medians of the rounds' ratios. doc/performance.md explains every row.
'make bench-kafka' runs this with the programs' paths.
"""

import base64
import gc
import glob
import http.client
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

from bench import CONNECTIONS, Bench, Row, median, options, run
from kafka import KafkaCluster
from procs import QUOTA_BYTES, Programs, Server, free_port, option_list, start

HOST = "127.0.0.1"
HEAP_MB = 512
WARM_UP_SECONDS = 20  # until the broker's code is compiled
ORIGINAL_PUTS = {1: 142, 64: 450, 512: 1000}  # a second, as the Java original made on such a machine
BOTH = "echo and bare record"
# What the budgets of 50,000 puts/s at 64 and 512 connections, and of 60,000 ranges/s, were of these limits where
# they were set: 360,000 echoes/s, and 199,000 and 500,000 bare records/s.
SHARES = {64: 0.39, 512: 0.24, "range": 0.167}
LOGGED = 2000  # requests whose bytes in the log are counted
STEADY_RATE = 1000  # puts a second, in sum, while the leader is killed
STEADY_CONNECTIONS = 8  # to each node
STEADY_SECONDS = 10  # of a stream that nothing disturbs, for each second of a run
AFTER_LEADER_SECONDS = 2  # how long the new leader is watched
NEW_LEADER_SECONDS = 90
CHECKPOINT_SECONDS = 120
GRACE_SECONDS = 30  # for the last answers
POLL_SECONDS = 0.2
VALUE = base64.b64encode(bytes(range(256))).decode()
METRICS = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Node(Server):
    """A ketad on Kafka. It answers when it is ready: it has caught up with the log."""

    def __init__(self, programs, servers, cluster, name, **settings):
        port, data = free_port(), programs.data()
        settings = {"listeners": "http://%s:%d" % (HOST, port), "cluster.group.id": cluster,
                    "topic.prefix": "_%s_" % cluster, "kafkacache.bootstrap.servers": servers,
                    "kafkacache.group.id": name, "kafkacache.data.dir": data,
                    "kafkacache.topic.replication.factor": 1, **settings}
        argv = [programs.args.ketad, "--quota-backend-bytes", str(QUOTA_BYTES)]
        for setting in settings.items():
            argv += ["--set", "%s=%s" % setting]
        begun = time.monotonic()
        super().__init__(name, argv, port, data=data)
        self.start_seconds = time.monotonic() - begun

    def get(self, path):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=GRACE_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def answers(self):
        try:
            return self.get("/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def metric(self, name):
        return metric_of(self.get("/metrics")[1], name)

    def count(self):
        """The keys that it has itself."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=GRACE_SECONDS)
        try:
            connection.request("POST", "/v3/kv/range", json.dumps(
                {"key": "AA==", "range_end": "AA==", "count_only": True, "serializable": True}))
            return int(json.load(connection.getresponse()).get("count", 0))
        finally:
            connection.close()


def metric_of(text, name):
    for line in text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise SystemExit("bench: there is no metric " + name)


def await_true(condition, seconds, what):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise SystemExit("bench: %s: not within %g s" % (what, seconds))
        time.sleep(POLL_SECONDS / 10)


class KafkaPrograms(Programs):
    """The programs, and the Kafka that they use."""

    def __init__(self, args):
        super().__init__(args)
        self.clusters = 0
        self.kafka = KafkaCluster(brokers=1, base_dir=self.dir, heap_mb=HEAP_MB, full_speed=True)

    def remove(self):
        self.kafka.stop()
        super().remove()

    def broker(self):
        """Its cost, to be told from other work."""
        broker = Server.__new__(Server)
        broker.name, broker.process = "kafka", self.kafka.brokers[0].process
        return broker

    def new_cluster(self):
        self.clusters += 1
        return "bench%d" % self.clusters

    def node(self, cluster, name="n1", **settings):
        return Node(self, self.kafka.bootstrap, cluster, name, **settings)

    def nodes(self, cluster, count):
        return [self.node(cluster, "n%d" % (number + 1)) for number in range(count)]

    def bare(self, in_flight, seconds):
        argv = [self.args.bare, "--servers", self.kafka.bootstrap] + \
            option_list({"in-flight": in_flight, "seconds": seconds})
        process = start(argv, False, stdout=subprocess.PIPE)
        output = process.communicate()[0]
        if process.returncode != 0:
            raise SystemExit("bench: %s failed" % " ".join(argv))
        return json.loads(output)

    def log_bytes(self, cluster):
        """What the broker stores of a cluster's log."""
        segments = os.path.join(self.kafka.brokers[0].home, "data", "_%s_commits-0" % cluster, "*.log")
        paths = glob.glob(segments)
        if not paths:
            raise SystemExit("bench: there is no log at " + segments)
        return sum(os.path.getsize(path) for path in paths)


# ---- A steady stream of puts ----

class Connection:
    """A keep-alive connection: one request after the other, with its answer."""

    def __init__(self, port):
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due, self.answer = None, b""

    def send(self, request, due):
        self.due, self.answer = due, b""
        self.socket.sendall(request)

    def receive(self):
        """Takes what is there. The whole answer as (status, body), or None when there is more to come."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise SystemExit("bench: a node closed a connection")
        self.answer += data
        head, found, body = self.answer.partition(b"\r\n\r\n")
        if not found:
            return None
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return None
        return int(head.split(b" ", 2)[1]), body.decode()


class Steady:
    """Puts at a fixed rate to some nodes, in one thread. Each is due at a time of its own, whether
    or not earlier ones have been answered, and its latency counts from there."""

    def __init__(self, nodes, rate):
        self.rate = rate
        self.selector = selectors.DefaultSelector()
        self.idle = [Connection(node.port) for _ in range(STEADY_CONNECTIONS) for node in nodes]
        self.probes = [Connection(node.port) for node in nodes]
        for connection in self.idle + self.probes:
            self.selector.register(connection.socket, selectors.EVENT_READ, connection)
        self.requests = [self.request(number) for number in range(1000)]
        self.sent, self.busy, self.refused = 0, 0, 0
        self.acknowledged, self.latencies = [], []
        self.probing, self.leader_at = False, None  # whether the nodes are asked who leads, and when one did
        self.next_probe, self.ended_at = 0, None

    @staticmethod
    def request(number):
        key = base64.b64encode(b"key%09d" % number).decode()
        body = json.dumps({"key": key, "value": VALUE})
        return ("POST /v3/kv/put HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s" % (
            HOST, len(body), body)).encode()

    def take_probe(self, connection, now, text):
        connection.due = None
        if self.leader_at is None and metric_of(text, "etcd_server_is_leader") == 1:
            self.leader_at = now

    def take_put(self, connection, now, status):
        if status == 200:
            self.acknowledged.append(now)
            self.latencies.append(now - connection.due)
        else:
            self.refused += 1
        self.busy -= 1
        self.idle.insert(0, connection)

    def take(self, connection):
        answer = connection.receive()
        if answer is None:
            return
        if connection in self.probes:
            self.take_probe(connection, time.monotonic(), answer[1])
        else:
            self.take_put(connection, time.monotonic(), answer[0])

    def probe(self, now):
        if not self.probing or now < self.next_probe:
            return
        self.next_probe = now + POLL_SECONDS
        for connection in self.probes:
            if connection.due is None:
                connection.send(METRICS, now)

    def run(self, is_over):
        """Puts until 'is_over', a function of the time, says so, and until all are answered."""
        begun, over_at = time.monotonic(), None
        while over_at is None or self.busy > 0:
            now = time.monotonic()
            if over_at is None and is_over(now):
                over_at = now
            if over_at is None:
                while self.idle and begun + self.sent / self.rate <= now:
                    request = self.requests[self.sent % len(self.requests)]
                    self.idle.pop().send(request, begun + self.sent / self.rate)
                    self.busy += 1
                    self.sent += 1
                self.probe(now)
            elif now - over_at > GRACE_SECONDS:
                raise SystemExit("bench: %d puts were not answered" % self.busy)
            wait = max(0, begun + self.sent / self.rate - now) if self.idle else POLL_SECONDS
            for key, _ in self.selector.select(min(wait, POLL_SECONDS)):
                self.take(key.data)
        self.ended_at = time.monotonic()

    def longest_gap(self, since):
        """Without an acknowledged put, from then on: its seconds, and after how many it began."""
        times = [since] + [when for when in self.acknowledged if when >= since] + [self.ended_at]
        return max((later - earlier, earlier - since) for earlier, later in zip(times, times[1:]))

    def close(self):
        self.selector.close()
        for connection in self.idle + self.probes:
            connection.socket.close()


def share_of(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


# ---- The parts ----

class KafkaBench(Bench):
    def __init__(self, args):
        # In place of the base's own, which would make programs of another kind.
        self.args, self.rows, self.log = args, [], []
        self.programs = KafkaPrograms(args)

    def begin(self):
        self.say("Kafka started in %.1f s" % self.programs.kafka.start())
        self.programs.bare(CONNECTIONS, WARM_UP_SECONDS)

    def end(self):
        pass

    def puts(self):
        """The bare round trip, an HTTP echo, and puts, by how many are under way."""
        programs, seconds = self.programs, self.args.seconds
        node, broker, echo = programs.node(programs.new_cluster()), programs.broker(), programs.echo()
        programs.load(node, "put", seconds=WARM_UP_SECONDS / 4)

        def bare(in_flight):
            got = programs.bare(in_flight, seconds)
            return {"bare": got["rate"], "bare us": got["median_us"], "bare p99 us": got["p99_us"]}

        def echoed(connections):
            # With a multiple of 128 events at once libmicrohttpd's own threads wait before they look at them.
            got = programs.load(echo, "range", connections=min(connections, CONNECTIONS), seconds=seconds)
            return {"echo": got["rate"], "echo us": got["median_us"]}

        def put(connections):
            got = programs.load(node, "put", connections=connections, seconds=seconds)
            return {"put": got["rate"], "put us": got["median_us"], "put p99 us": got["p99_us"],
                    "CPU us": got["cpu_us"]}
        for count, original in ORIGINAL_PUTS.items():
            what = "put, %d connection%s" % (count, "s" if count > 1 else "")
            figures = self.rounds("Puts beside the bare round trip, %d under way" % count, [node, broker, echo], {
                "bare": lambda count=count: bare(count), "echo": lambda count=count: echoed(count),
                "put": lambda count=count: put(count)})
            # A put is at the least both, one after the other, on the same cores.
            figures["both us"] = [sum(pair) for pair in zip(figures["bare us"], figures["echo us"])]
            figures["both"] = [1 / (1 / bare + 1 / echo) for bare, echo in zip(figures["bare"], figures["echo"])]
            if count == 1:
                self.compare(what + ", median", figures, "put us", "bare us", "us", "bare round trip", 1.5, False)
                self.compare(what + ", median", figures, "put us", "both us", "us", BOTH)
                self.compare(what + ", p99", figures, "put p99 us", "bare p99 us", "us", "bare round trip")
            self.beside(what, figures, "put", "bare", "/s", "bare, %d in flight" % count,
                        None if count == 1 else 50000)
            self.compare(what, figures, "put", "both", "/s", BOTH, SHARES.get(count))
            ours = median(figures["put"])
            self.rows.append(Row(what, "Java original", original, ours, "/s", ours / original))
        echo.close()
        node.close()

    def reads(self):
        """Ranges of one key, with a barrier and without, beside those of a server without Kafka."""
        programs = self.programs
        servers = {"kafka": programs.node(programs.new_cluster()), "embedded": programs.ketad()}
        echo = programs.echo()
        contests = {"echo": self.run(echo, "range", "rate")}
        for name, server in servers.items():
            programs.load(server, "put", requests=1000)
            for mode, how in (("range", "linearizable"), ("serializable", "serializable")):
                contests["%s %s" % (how, name)] = self.run(server, mode, "rate")
        figures = self.rounds("Ranges per second, %d connections" % CONNECTIONS,
                              [*servers.values(), programs.broker(), echo], contests)
        self.beside("range, linearizable", figures, "linearizable kafka", "linearizable embedded", "/s",
                    "embedded", 60000)
        self.compare("range, linearizable", figures, "linearizable kafka", "echo", "/s", "echo", SHARES["range"])
        self.compare("range, serializable", figures, "serializable kafka", "serializable embedded", "/s",
                     "embedded", 1 / 1.1)
        for server in (echo, *servers.values()):
            server.close()

    def bytes(self):
        """What requests put into the log."""
        programs, cluster = self.programs, self.programs.new_cluster()
        node = programs.node(cluster, **{"checkpoint.interval.ms": 3600000})
        programs.load(node, "put", requests=100)
        self.say("\nBytes in the log")
        for mode, what in (("put", "put"), ("range", "linearizable range")):
            for connections in (1, CONNECTIONS):
                before = programs.log_bytes(cluster)
                programs.load(node, mode, connections=connections, requests=LOGGED)
                each = (programs.log_bytes(cluster) - before) / LOGGED
                self.say("  %s, %d connections: %.1f" % (what, connections, each))
                self.rows.append(Row("log bytes of a %s, %d connection%s" % (
                    what, connections, "s" if connections > 1 else ""), None, None, each, "B"))
        node.close()

    # ---- The leader is killed ----

    @staticmethod
    def leader_of(nodes):
        found = []

        def has_one():
            found[:] = [node for node in nodes if node.metric("etcd_server_is_leader") == 1]
            return len(found) == 1
        await_true(has_one, NEW_LEADER_SECONDS, "one leader")
        return found[0]

    def kill_leader(self, nodes):
        """One round: the figures of a steady stream, and of one during which the leader is killed."""
        leader = self.leader_of(nodes)
        others = [node for node in nodes if node is not leader]
        calm_seconds = STEADY_SECONDS * self.args.seconds
        calm = Steady(others, STEADY_RATE)
        begun = time.monotonic()
        calm.run(lambda now: now - begun > calm_seconds)
        calm_gap = calm.longest_gap(begun)[0]
        calm.close()

        steady = Steady(others, STEADY_RATE)
        begun = time.monotonic()
        killed_at = []

        def is_over(now):
            if not killed_at and now - begun > 1:
                leader.process.kill()
                killed_at.append(time.monotonic())
                steady.probing = True
            elif steady.leader_at is not None:
                return now - steady.leader_at > AFTER_LEADER_SECONDS
            return now - begun > NEW_LEADER_SECONDS
        steady.run(is_over)
        steady.close()
        leader.process.wait()
        leader.start()
        if steady.leader_at is None:
            raise SystemExit("bench: nobody leads %d s after the leader was killed" % NEW_LEADER_SECONDS)
        gap, gap_at = steady.longest_gap(killed_at[0])
        return {"gap ms": gap * 1000, "after s": gap_at, "calm gap ms": calm_gap * 1000,
                "calm p99.9 ms": share_of(calm.latencies, 0.999) * 1000,
                "calm median ms": share_of(calm.latencies, 0.5) * 1000,
                "refused": steady.refused, "new leader s": steady.leader_at - killed_at[0]}

    def gap(self):
        """Writes at two nodes while the third, which leads, is killed."""
        nodes = self.programs.nodes(self.programs.new_cluster(), 3)
        gc.disable()
        figures = {}
        self.say("\nThe leader is killed under %d puts/s to the other two nodes" % STEADY_RATE)
        for number in range(min(3, self.args.rounds)):
            got = self.kill_leader(nodes)
            self.say("  round %d: %s" % (number + 1, "  ".join("%s %.4g" % item for item in got.items())))
            for name, figure in got.items():
                figures.setdefault(name, []).append(figure)
        gc.enable()
        self.compare("leader killed: longest time without a put", figures, "gap ms", "calm p99.9 ms", "ms",
                     "p99.9 of a put before", 1, False)
        self.compare("leader killed: longest time without a put", figures, "gap ms", "calm gap ms", "ms",
                     "longest before")
        self.rows.append(Row("leader killed: puts refused", None, None, median(figures["refused"]), ""))
        self.rows.append(Row("leader killed: there is a new one after", None, None,
                             median(figures["new leader s"]), "s"))
        for node in nodes:
            node.close()

    # ---- An empty node ----

    def bootstrap(self):
        """An empty node, from the start of its process until it is ready."""
        programs, keys = self.programs, self.args.keys
        cluster = programs.new_cluster()
        first = programs.node(cluster)
        self.leader_of([first])
        self.say("\nAn empty node joins")
        self.load_keys(first)
        end = first.metric("keta_log_applied_offset")
        begun = time.monotonic()
        first.process.send_signal(signal.SIGUSR1)
        await_true(lambda: first.metric("keta_checkpoint_offset") >= end, CHECKPOINT_SECONDS, "a checkpoint")
        self.say("  checkpoint: %.1f s" % (time.monotonic() - begun))
        seconds = []
        for number in range(min(3, self.args.rounds)):
            node = programs.node(cluster, "n%d" % (number + 2))
            seconds.append(node.start_seconds)
            found = node.count()
            if found != keys:
                raise SystemExit("bench: a new node has %d keys of %d" % (found, keys))
            self.say("  round %d: %.2f s" % (number + 1, seconds[-1]))
            node.close()
        self.rows.append(Row("empty node ready, {:,} keys".format(keys), None, None, median(seconds), "s",
                             budget=15 if keys == 1000000 else None, more=False))
        first.close()


PARTS = ("puts", "reads", "bytes", "gap", "bootstrap")


def main():
    return run(options(__doc__.split("\n")[0], ("ketad", "load", "echo", "bare"), PARTS), KafkaBench, PARTS)


if __name__ == "__main__":
    sys.exit(main())
