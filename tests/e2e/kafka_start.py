#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Three nodes that are started at the same moment, where there are no topics yet,
come up as one cluster: when nothing disturbs them, when one is killed or told to
stop in the middle of its start and started again, and when Kafka comes up after
them.

    kafka_start.py [--rounds N] [--seed N] [--kafka VERSION] KETAD

Each round has topics of its own; of the rounds in which Kafka comes late there
are a third as many. Ends with "N passed, N failed"."""

import argparse
import os
import random
import sys
import time

from gateway import BROKEN, Failure, expect, poll
from kafka import KafkaCluster
from kafka_node import LEADER_LIMIT_SEC, Node, World, hashes

NODES = 3
ALIVE_LIMIT_SEC = 10
STOPS_LIMIT_SEC = 7  # a member of the election's group that went without a word is missed for 10
START_SEC = 0.6  # about what a start takes; a kill comes at some moment of it


class Round:
    def __init__(self, world, generator):
        self.world, self.random = world, generator
        prefix = world.prefix()
        # A group of its own too: what a killed node holds in an older round's does not concern this one.
        self.nodes = [Node(world, prefix, "n%d" % number, cluster__group__id=prefix, log__level="debug")
                      for number in range(NODES)]
        self.random.shuffle(self.nodes)
        self.times = []

    def launch(self):
        for node in self.nodes:
            node.launch()

    def wait_ready(self, since):
        for node in self.nodes:
            node.wait_ready()
        self.times.append("ready after %.2f s" % (time.monotonic() - since))
        poll(lambda: sum(node.leads() for node in self.nodes) == 1
             and all(node.metrics()["etcd_server_has_leader"] == 1 for node in self.nodes),
             LEADER_LIMIT_SEC, "one leader that all know")
        self.times.append("a leader after %.2f s" % (time.monotonic() - since))

    def check(self):
        """That they are one cluster, and work as one."""
        names = sorted(node.name for node in self.nodes)
        found = set()
        for node in self.nodes:
            answer = node.must("cluster/member/list", {"linearizable": True})
            expect(sorted(member["name"] for member in answer["members"]) == names, "%s has the members %s", node.name,
                   answer["members"])
            expect(answer["header"]["member_id"] == next(
                member["ID"] for member in answer["members"] if member["name"] == node.name),
                "%s is another member than itself: %s", node.name, answer)
            found.add((answer["header"]["cluster_id"], tuple(sorted(member["ID"] for member in answer["members"]))))
        expect(len(found) == 1, "clusters: %s", found)
        leader = next(node for node in self.nodes if node.leads())
        for node in self.nodes:
            status = node.must("maintenance/status", {})
            expect(status["leader"] == leader.must("maintenance/status", {})["header"]["member_id"],
                   "%s takes another than %s for the leader: %s", node.name, leader.name, status)
        for number, node in enumerate(self.nodes):
            expect(node.put("k", node.name) == number + 2, "%s's write has the wrong revision", node.name)
            for other in self.nodes:
                expect(other.read("k") == node.name, "%s does not read what %s wrote", other.name, node.name)
        expect(len(set(hashes(self.nodes))) == 1, "state hashes: %s", hashes(self.nodes))

    def stop(self):
        """One after the other, the leader second. Who stops in order leaves the election's group in order, so that
        nobody waits for his session there to end: not who follows him in office, not who stops next."""
        leader = next(node for node in self.nodes if node.leads())
        follower, last = (node for node in self.nodes if node is not leader)
        since = time.monotonic()
        follower.stop()
        leader.stop()
        self.times.append("two stopped in %.2f s" % (time.monotonic() - since))
        since = time.monotonic()
        poll(last.leads, LEADER_LIMIT_SEC, "the last one in office")
        last.stop()
        self.times.append("the last led and stopped in %.2f s" % (time.monotonic() - since))

    def stop_quickly(self):
        since = time.monotonic()
        self.stop()
        expect(time.monotonic() - since < STOPS_LIMIT_SEC, "somebody waited for a session's end: %s", self.times[-2:])


def started_together(this):
    since = time.monotonic()
    this.launch()
    this.wait_ready(since)


def broken_off(this, end):
    """One is ended by 'end', at some moment of its start, and started again."""
    since = time.monotonic()
    this.launch()
    victim = this.random.choice(this.nodes)
    time.sleep(this.random.uniform(0, START_SEC))
    moment = time.monotonic() - since
    end(victim)
    said = [line["message"] for line in victim.lines()]
    this.times.append("ended after %.2f s%s" % (moment, said and " and %r" % said[-1] or ""))
    victim.launch()
    this.wait_ready(since)


def killed_in_the_middle(this):
    broken_off(this, Node.kill)


def stopped_in_the_middle(this):
    # Node.stop wants the exit status 0, which a process has that knows what a signal is: not in its first moments.
    broken_off(this, lambda node: (poll(node.lines, ALIVE_LIMIT_SEC, "a line of the log"), node.stop()))


def started_before_kafka(this):
    kafka = this.world.kafka
    kafka.kill(0)
    try:
        this.launch()
        for node in this.nodes:
            poll(lambda: node.get("/livez")[0] == 200, ALIVE_LIMIT_SEC, "%s alive" % node.name)
            status, text = node.get("/readyz")
            expect(status == 503, "%s is ready without Kafka: %s", node.name, text)
    finally:
        kafka.restart(0)
    this.wait_ready(time.monotonic())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ketad", metavar="KETAD")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("KETA_SEED") or random.randrange(10 ** 9)))
    parser.add_argument("--kafka", metavar="VERSION", help="of Kafka, if not the usual one")
    options = parser.parse_args()
    print("seed %d" % options.seed, flush=True)
    rounds = [test for test in (started_together, killed_in_the_middle, stopped_in_the_middle)
              for _ in range(options.rounds)]
    rounds += [started_before_kafka] * ((options.rounds + 2) // 3)
    generator = random.Random(options.seed)
    failed = 0
    with KafkaCluster(version=options.kafka) as kafka, World(options.ketad, kafka) as world:
        for test in rounds:
            this = Round(world, generator)
            name = test.__name__.replace("_", " ")
            try:
                test(this)
                this.check()
                # A killed one's session is still there.
                (this.stop if test is killed_in_the_middle else this.stop_quickly)()
                print("ok: %s: %s" % (name, ", ".join(this.times)), flush=True)
            except (Failure, KeyError, *BROKEN) as error:
                failed += 1
                world.keep = True
                print("FAILED: %s: %s: %s: %s" % (name, ", ".join(this.times), type(error).__name__, error), flush=True)
            world.kill_all()
    print("%d passed, %d failed" % (len(rounds) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
