#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks a cluster in every way there is while clients, watches and leases use
it, and has tests/linearizability check that nobody could tell.

    linearizability.py [--seconds N] [--seed N] [OPTION...] KETAD

It runs a Kafka of three brokers and three nodes that reach it through links of
their own. Two hands break things meanwhile, each one thing at a time: one the
nodes, the other brokers and links. Then everything is healed, and all nodes
must become ready and have the same state. --embedded is one node without Kafka.
What the hands do follows from the seed; when exactly it hits, does not."""

import argparse
import collections
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from gateway import BROKEN, HOST, Failure, Gateway, expect, poll
from kafka import KafkaCluster, free_ports

NODES = BROKERS = 3
TOPICS = "_lin_"
RESTART_LIMIT_SEC = 30  # that a hand waits for a node before it goes on
READY_LIMIT_SEC = 120   # for all to be well again after the last fault
SAME_LIMIT_SEC = 60     # for all to have applied the same
STOP_LIMIT_SEC = 20
CHECK_LIMIT_SEC = 600   # what the checker may take after the load
CHECKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "linearizability")
# The checker's clients wait 4 s, the server 7 s; brokers are given up after 4 s, and nodes after the session
# time-out below: long pauses go beyond all of these.
SHORT_SEC, MEDIUM_SEC, LONG_SEC = (0.1, 3), (3, 12), (12, 50)
# Checkpoints often enough for truncation and rebuilding to be part of each run.
SETTINGS = ["checkpoint.interval.ms=4000", "checkpoint.log.bytes=262144", "kafkacache.session.timeout.ms=8000"]
# A lease ends later when its leader went just now: another has to be found first.
SETTLE = "90s"


class Node:
    """One ketad, always at the same port. Used by one thread at a time."""

    def __init__(self, number, ketad, directory, port, settings):
        self.number, self.port = number, port
        self.data = os.path.join(directory, "node-%d" % number)
        self.log_path = self.data + ".log"
        self.command = [ketad]
        for setting in ["listeners=http://%s:%d" % (HOST, port), *settings]:
            self.command += ["--set", setting]
        self.process = None
        self.is_paused = False
        self.ends = []  # how it ended when nobody had ended it

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def note_end(self):
        """Whether it ended by itself, which no fault is a reason for."""
        if self.process is None or self.process.poll() is None:
            return False
        self.ends.append("node %d ended by itself with %s" % (self.number, self.process.returncode))
        self.process = None
        return True

    def kill(self):
        if not self.note_end() and self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.is_paused = False

    def wipe(self):
        shutil.rmtree(self.data, ignore_errors=True)

    def pause(self):
        if self.is_alive():
            self.process.send_signal(signal.SIGSTOP)
            self.is_paused = True

    def resume(self):
        if self.is_alive():
            self.process.send_signal(signal.SIGCONT)
        self.is_paused = False

    def get(self, path):
        """The text, or None when there is no good answer."""
        gateway = Gateway(self.port, timeout=2)
        try:
            status, text = gateway.get(path)
            return text if status == 200 else None
        except BROKEN:
            return None
        finally:
            gateway.close()

    def is_ready(self):
        return self.is_alive() and not self.is_paused and self.get("/readyz") is not None

    def is_leader(self):
        return re.search(r"^etcd_server_is_leader 1$", self.get("/metrics") or "", re.M) is not None

    def state(self):
        """(the offset that was applied, the hash of the state there), or None when it does not tell."""
        text = self.get("/metrics") or ""
        found = [re.search(r"^%s(\{.*\})? (\S+)$" % name, text, re.M)
                 for name in ("keta_log_applied_offset", "keta_state_hash")]
        return (float(found[0][2]), found[1].groups()) if all(found) else None

    def stop(self):
        """In good order; what is wrong with it, or None."""
        self.resume()
        if self.note_end() or self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_SEC)
            if self.process.returncode != 0:
                self.ends.append("node %d stopped with %d" % (self.number, self.process.returncode))
        except subprocess.TimeoutExpired:
            self.ends.append("node %d did not stop on SIGTERM" % self.number)
            self.process.kill()
            self.process.wait()
        self.process = None


class Hand(threading.Thread):
    """Does one fault after the other; each heals itself in the end, also when it is cut short."""

    def __init__(self, name, cluster, seed, faults):
        super().__init__(name=name, daemon=True)
        self.cluster, self.random, self.faults = cluster, random.Random("%s %s" % (seed, name)), faults
        self.failure = None

    def run(self):
        try:
            deck = [fault for fault, _ in self.faults]  # each once, then as often as they weigh
            self.random.shuffle(deck)
            while not self.wait((0.2, 4)):
                deck.pop()(self)
                if not deck:
                    deck = [fault for fault, weight in self.faults for _ in range(weight)]
                    self.random.shuffle(deck)
        except Exception as error:
            self.failure = "%s: %r" % (self.name, error)

    def wait(self, span):
        """A while of that many seconds; true when the time of faults is over."""
        return self.cluster.over.wait(self.random.uniform(*span))

    def say(self, kind, *details):
        self.cluster.say(kind, *details)

    # ------------------------------------------------------------ nodes

    def node(self):
        return self.random.choice(self.cluster.nodes)

    def leader(self):
        """The node that says it leads, or any."""
        return next((node for node in self.cluster.nodes if node.is_leader()), None) or self.node()

    def restart(self, *nodes):
        for node in nodes:
            node.start()
        # The other hand may keep it from getting ready; when all is healed it has to be.
        deadline = time.monotonic() + RESTART_LIMIT_SEC
        while time.monotonic() < deadline and not all(node.is_ready() or not node.is_alive() for node in nodes):
            if self.wait((0.1, 0.1)):
                break

    def kill_node(self):
        node = self.node()
        self.say("node killed", node.number)
        node.kill()
        self.wait((0, 5))
        self.restart(node)

    def kill_leader(self):
        node = self.leader()
        self.say("leading node killed", node.number)
        node.kill()
        self.wait((0, 15))
        self.restart(node)

    def empty_node(self):
        node = self.node()
        self.say("node killed and emptied", node.number)
        node.kill()
        node.wipe()
        self.wait((0, 5))
        self.restart(node)

    def stop_node(self):
        node = self.node()
        self.say("node stopped in good order", node.number)
        node.stop()
        self.restart(node)

    def kill_all_nodes(self):
        self.say("all nodes killed")
        for node in self.cluster.nodes:
            node.kill()
        self.restart(*self.cluster.nodes)

    def pause(self, node, span, kind):
        self.say(kind, node.number)
        node.pause()
        self.wait(span)
        node.resume()

    def pause_node(self):
        self.pause(self.node(), SHORT_SEC, "node paused, short")

    def pause_node_longer(self):
        self.pause(self.node(), MEDIUM_SEC, "node paused, longer")

    def pause_node_long(self):
        self.pause(self.node(), LONG_SEC, "node paused, beyond all time-outs")

    def pause_leader(self):
        self.pause(self.leader(), (8, 25), "leading node paused")

    # ------------------------------------------------------------ brokers and links

    def log_leader(self):
        """The broker that leads the log's partition, or any at a moment when nobody does."""
        try:
            return self.cluster.kafka.leader_of(TOPICS + "commits")
        except (Failure, OSError, KeyError):
            return None

    def broker(self):
        leader = self.log_leader() if self.random.random() < 0.6 else None
        return self.random.randrange(BROKERS) if leader is None else leader

    def kill_broker(self):
        broker = self.broker()
        self.say("broker killed", broker)
        self.cluster.kafka.kill(broker)
        self.wait((0, 8))
        self.cluster.kafka.restart(broker)

    def pause_broker(self):
        broker = self.broker()
        self.say("broker paused", broker)
        self.cluster.kafka.pause(broker)
        self.wait((0.5, 12))
        self.cluster.kafka.resume(broker)

    def links(self):
        """Some links: of a node, of a broker, one, or all."""
        node, broker = self.random.randrange(len(self.cluster.nodes)), self.broker()
        return self.random.choice([{"node": node}, {"node": node}, {"broker": broker}, {"node": node, "broker": broker},
                                   {}])

    def on_links(self, kind, what, span):
        links = self.links()
        self.say(kind, " ".join("%s %d" % item for item in links.items()) or "all")
        what(links)
        self.wait(span)
        self.cluster.kafka.proxy.heal()

    def cut_links(self):
        self.on_links("links cut", lambda links: self.cluster.kafka.proxy.cut(**links), (0.1, 12))

    def stall_links(self):
        what = self.random.choice([None, "requests", "answers", "answers"])
        self.on_links("links stalled", lambda links: self.cluster.kafka.proxy.stall(what=what, **links), (0.5, 15))

    def delay_links(self):
        delay_ms = self.random.choice([20, 100, 500, 1500])
        self.on_links("links delayed", lambda links: self.cluster.kafka.proxy.delay(delay_ms, **links), (2, 10))


KILL_NODES = [(Hand.kill_node, 4), (Hand.kill_leader, 2), (Hand.empty_node, 2), (Hand.stop_node, 2),
              (Hand.kill_all_nodes, 1)]
PAUSE_NODES = [(Hand.pause_node, 4), (Hand.pause_node_longer, 2), (Hand.pause_node_long, 1), (Hand.pause_leader, 3)]
KILL_BROKERS = [(Hand.kill_broker, 3)]
BREAK_KAFKA = [(Hand.pause_broker, 2), (Hand.cut_links, 3), (Hand.stall_links, 3), (Hand.delay_links, 2)]
ALONE = [(Hand.kill_node, 4), (Hand.stop_node, 1), (Hand.pause_node, 3), (Hand.pause_node_longer, 1)]


class Cluster:
    def __init__(self, options, directory):
        self.options, self.directory = options, directory
        self.over = threading.Event()
        self.begun = time.monotonic()
        self.lock = threading.Lock()
        self.faults = collections.Counter()
        self.kafka = None
        self.nodes, self.hands = [], []

    def say(self, kind, *details):
        with self.lock:
            self.faults[kind] += 1
            print("%7.1f s  %s %s" % (time.monotonic() - self.begun, kind, " ".join(map(str, details))), flush=True)

    def start(self):
        ketad = os.path.abspath(self.options.ketad)
        count = 1 if self.options.embedded else NODES
        ports = free_ports(count)
        if not self.options.embedded:
            self.kafka = KafkaCluster(brokers=BROKERS, proxied_nodes=NODES)
            print("Kafka is there after %.1f s" % self.kafka.start(), flush=True)
        for number in range(count):
            data = os.path.join(self.directory, "node-%d" % number)
            settings = ["watch.progress.notify.interval.ms=1000"]
            if self.kafka is None:
                settings += ["data.dir=" + data]
            else:
                settings += ["kafkacache.bootstrap.servers=" + self.kafka.bootstrap_for(number),
                             "kafkacache.group.id=node%d" % number, "kafkacache.data.dir=" + data,
                             "kafkacache.topic.replication.factor=%d" % BROKERS, "topic.prefix=" + TOPICS, *SETTINGS]
            self.nodes.append(Node(number, ketad, self.directory, ports[number], settings + self.options.set))
            self.nodes[-1].start()
        poll(self.are_ready, READY_LIMIT_SEC, "all nodes ready at the start")

    def are_ready(self):
        for node in self.nodes:
            expect(node.is_alive(), "node %d has ended", node.number)
        return all(node.is_ready() for node in self.nodes)

    def break_things(self, checker):
        """For as long as was asked, unless the checker ends before."""
        options = self.options
        self.begun = time.monotonic()
        if options.embedded:
            self.hands = [Hand("nodes", self, options.seed, ALONE)]
        elif options.kill_only:
            self.hands = [Hand("nodes", self, options.seed, KILL_NODES),
                          Hand("brokers", self, options.seed, KILL_BROKERS)]
        else:
            self.hands = [Hand("nodes", self, options.seed, KILL_NODES + PAUSE_NODES),
                          Hand("brokers and links", self, options.seed, KILL_BROKERS + BREAK_KAFKA)]
        if options.no_faults:
            self.hands = []
        for hand in self.hands:
            hand.start()
        try:
            checker.wait(options.seconds)
        except subprocess.TimeoutExpired:
            pass
        self.over.set()
        for hand in self.hands:
            hand.join()

    def heal(self):
        """Everything runs and is connected; the seconds until all nodes are ready."""
        begun = time.monotonic()
        if self.kafka is not None:
            self.kafka.proxy.heal()
            for broker in self.kafka.brokers:
                if broker.is_paused:
                    self.kafka.resume(broker.number)
                if not broker.is_running():
                    self.kafka.restart(broker.number)
        for node in self.nodes:
            node.resume()
            if node.note_end() or node.process is None:
                node.start()
        poll(self.are_ready, READY_LIMIT_SEC, "all nodes ready after the last fault", 0.1)
        return time.monotonic() - begun

    def agree(self):
        """The offset at which all nodes were seen with the same state."""
        seen = [{} for _ in self.nodes]  # offset: hash, of each node

        def common():
            for node, states in zip(self.nodes, seen):
                state = node.state()
                # Told twice, for a record may be applied between the two lines of an answer.
                if state is not None and state == node.state():
                    expect(states.setdefault(*state) == state[1], "node %d has two states at offset %d", node.number,
                           state[0])
            for offset in set.intersection(*map(set, seen)):
                expect(len({states[offset] for states in seen}) == 1, "the nodes differ at offset %d: %s", offset,
                       [states[offset] for states in seen])
                return offset
            return None
        return poll(common, SAME_LIMIT_SEC, "keta_state_hash of all nodes at one keta_log_applied_offset")

    def stop(self):
        self.over.set()
        for hand in self.hands:
            if hand.is_alive():
                hand.join()
        for node in self.nodes:
            node.stop()
        if self.kafka is not None:
            self.kafka.stop()


class Results:
    def __init__(self):
        self.passed = self.failed = 0

    def test(self, name, function):
        try:
            print("passed: %s (%s)" % (name, function()), flush=True)
            self.passed += 1
        except (Failure, OSError, subprocess.SubprocessError) as error:
            print("FAILED: %s: %s" % (name, error), flush=True)
            self.failed += 1


def build_checker(directory):
    expect(shutil.which("go") is not None, "go is missing: apt-get install golang-go")
    path = os.path.join(directory, "linearizability")
    subprocess.run(["go", "build", "-o", path, "."], cwd=CHECKER, check=True)
    return path


def start_checker(options, cluster, path, directory):
    # It shows how it goes on standard error; its results are counted with ours in the end.
    return subprocess.Popen(
        [path, "--endpoints", ",".join("http://%s:%d" % (HOST, node.port) for node in cluster.nodes),
         "--seed", str(options.seed), "--stop-file", os.path.join(directory, "stop"), "--out",
         os.path.join(directory, "history"), "--settle", SETTLE, *options.checker_option],
        stdout=subprocess.PIPE, stderr=None if options.verbose else subprocess.DEVNULL, text=True)


def finish_checker(checker, directory, results):
    """Ends the load, prints what the checker found, and counts it."""
    with open(os.path.join(directory, "stop"), "w", encoding="ascii"):
        pass
    output = checker.communicate(timeout=CHECK_LIMIT_SEC)[0]
    counts = re.findall(r"^(\d+) passed, (\d+) failed$", output, re.M)
    print("".join("    %s\n" % line for line in output.splitlines()), end="", flush=True)
    expect(len(counts) == 1, "the checker ended with %d", checker.returncode)
    results.passed += int(counts[0][0])
    results.failed += int(counts[0][1])
    return "exit status %d" % checker.returncode


def nodes_lived(cluster):
    ends = [end for node in cluster.nodes for end in node.ends]
    ends += [hand.failure for hand in cluster.hands if hand.failure]
    expect(not ends, "%s", "; ".join(ends))
    return "%d nodes" % len(cluster.nodes)


def run(options, directory, results):
    path = options.checker or build_checker(directory)
    cluster = Cluster(options, directory)
    checker = None
    try:
        cluster.start()
        checker = start_checker(options, cluster, path, directory)
        cluster.break_things(checker)
        for kind, count in sorted(cluster.faults.items()):
            print("%6d  %s" % (count, kind))
        print("%6d  faults" % cluster.faults.total(), flush=True)
        results.test("all nodes are ready when all is healed", lambda: "after %.1f s" % cluster.heal())
        results.test("the checker came to an end", lambda: finish_checker(checker, directory, results))
        if not options.embedded:
            results.test("all nodes have the same state", lambda: "at offset %d" % cluster.agree())
    finally:
        if checker is not None and checker.poll() is None:
            checker.kill()
            checker.wait()
        cluster.stop()
    results.test("no node ended by itself, all stop when asked to", lambda: nodes_lived(cluster))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long things are broken")
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--embedded", action="store_true", help="one node without Kafka")
    parser.add_argument("--kill-only", action="store_true", help="nodes and brokers are killed, nothing else")
    parser.add_argument("--no-faults", action="store_true", help="nothing is broken: what the load alone brings up")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a property for all nodes")
    parser.add_argument("--checker", help="a checker that was built already")
    parser.add_argument("--checker-option", action="append", default=[], metavar="OPTION",
                        help="passed on, as in --checker-option=--rate=200")
    parser.add_argument("--keep", action="store_true", help="keep logs and history even when all passed")
    parser.add_argument("--verbose", action="store_true", help="show the checker's progress")
    parser.add_argument("ketad")
    options = parser.parse_args()
    print("seed %d" % options.seed, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    directory = tempfile.mkdtemp(prefix="keta-linearizability-")
    results = Results()
    try:
        run(options, directory, results)
    except (Failure, OSError, subprocess.SubprocessError) as error:
        print("FAILED: %s" % error)
        results.failed += 1
    finally:
        if results.failed or results.passed == 0 or options.keep:
            print("logs and history are kept in %s" % directory)
        else:
            shutil.rmtree(directory)
    print("%d passed, %d failed" % (results.passed, results.failed))
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
