#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The server's Kafka client (src/log/kafka*.c) against real brokers, driven by
tests/log/kafka_probe.c.

    kafka_client.py [--kafka VERSION] [--test NAME]... PROBE"""

import argparse
import re
import shlex
import signal
import subprocess
import sys
import time
import types

from gateway import Failure, expect, poll
from kafka import KafkaCluster

PREFIX = "probe_"
GROUP = PREFIX + "keta"
TOPICS = ["commits", "kv", "leases", "auth", "auth_users", "auth_roles", "timestamps", "election"]
USER, PASSWORD = "keta", "keta-secret"
PROBE_LIMIT_SEC = 180
VOTE_LIMIT_SEC = 40  # a session's time-out and a rebalance


class Probe:
    """Runs the program for a cluster, as a user of it if there are users."""

    def __init__(self, path, kafka, **properties):
        self.path, self.kafka, self.properties = path, kafka, properties

    def command(self, name, options, prefix=PREFIX):
        properties = self.kafka.client_options() if not self.kafka.sasl else self.kafka.client_options(USER)
        servers = properties.pop("bootstrap.servers")
        properties.update(self.properties)
        properties.update(options)
        return [self.path, servers, prefix, name] + ["%s=%s" % item for item in properties.items()]

    def run(self, name, prefix=PREFIX, **options):
        """(exit status, standard output and error)"""
        done = subprocess.run(self.command(name, options, prefix), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, text=True, timeout=PROBE_LIMIT_SEC)
        expect(done.returncode in (0, 1), "%s ended with %d:\n%s", name, done.returncode, done.stdout)
        return done.returncode, done.stdout

    def succeed(self, name, **options):
        status, output = self.run(name, **options)
        expect(status == 0, "%s failed:\n%s", name, output)
        return output

    def refuse(self, name, *texts, prefix=PREFIX, **options):
        status, output = self.run(name, prefix=prefix, **options)
        expect(status == 1, "%s succeeded:\n%s", name, output)
        for text in texts:
            expect(text in output, "%s does not say %r:\n%s", name, text, output)
        return output


def figures(output):
    for line in output.splitlines():
        if " each, " in line or " rows " in line or ": after " in line or line.startswith("idle"):
            print("    " + line)


def topics_are_made_and_found_again(probe):
    probe.refuse("check", "topic probe_commits is missing")
    expect("a node that starts makes them" in probe.succeed("report"), "the report does not say that topics are missing")
    probe.succeed("prepare")
    expect(set(PREFIX + name for name in TOPICS) <= set(probe.kafka.topics()), "a topic was not made")
    probe.succeed("prepare")
    probe.succeed("check")
    commits = probe.kafka.topic_config(PREFIX + "commits")
    expect(commits["cleanup.policy"] == "delete" and commits["retention.ms"] == "-1" and
           commits["message.timestamp.type"] == "LogAppendTime", "commits is %s", commits)
    expect(probe.kafka.topic_config(PREFIX + "kv")["cleanup.policy"] == "compact", "kv is not compacted")


def the_log_works(probe):
    probe.succeed("prepare")
    figures(probe.succeed("log"))


def the_tables_work(probe):
    probe.succeed("prepare")
    figures(probe.succeed("tables"))


def the_election_works(probe):
    probe.succeed("prepare")
    figures(probe.succeed("election"))


def vote(probe):
    return subprocess.Popen(probe.command("vote", {}), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            stdin=subprocess.DEVNULL, text=True)


def a_killed_leader_is_followed(probe):
    probe.succeed("prepare")
    voters = [vote(probe)]
    try:
        expect(voters[0].stdout.readline() == "holds\n", "the first does not lead")
        voters.append(vote(probe))
        poll(lambda: len(members(probe)) == 2, VOTE_LIMIT_SEC, "two members", pause_sec=1)
        voters[0].send_signal(signal.SIGKILL)
        expect(voters[1].stdout.readline() == "holds\n", "the second does not lead")
    finally:
        for voter in voters:
            voter.kill()
            voter.wait()
            voter.stdout.close()


def a_leader_without_kafka_leads_no_more(probe):
    """Until it is back."""
    probe.succeed("prepare")
    voter = vote(probe)
    try:
        expect(voter.stdout.readline() == "holds\n", "it does not lead")
        expect("ok    Read on group" in probe.run("report")[1], "the report takes a group with members for a forbidden one")
        probe.kafka.kill(0)
        expect(voter.stdout.readline() == "holds not\n", "it leads without Kafka")
        probe.kafka.restart(0)
        expect(voter.stdout.readline() == "holds\n", "it does not lead again")
    finally:
        voter.kill()
        voter.wait()
        voter.stdout.close()


def a_deleted_topic_is_not_made_by_a_broker(probe):
    """Although brokers make those that somebody names; it would lack its settings."""
    prefix = "gone_"
    expect(probe.run("prepare", prefix=prefix)[0] == 0, "it does not start")
    running = subprocess.Popen(probe.command("endure", {}, prefix), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    try:
        while running.stdout.readline() != "begun\n":
            expect(running.poll() is None, "it has ended")
        poll(lambda: probe.kafka.end_offset(prefix + "commits") > 100, VOTE_LIMIT_SEC, "appends")
        probe.kafka.delete_topic(prefix + "commits")
        deadline = time.monotonic() + 3  # clients ask for it many times in that
        while time.monotonic() < deadline:
            expect(prefix + "commits" not in probe.kafka.topics(), "it was made again")
            time.sleep(0.2)
    finally:
        running.kill()
        running.wait()
        running.stdin.close()
        running.stdout.close()


def members(probe):
    text = probe.kafka.tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--describe", "--group",
                            GROUP, "--members", check=False)
    return [line for line in text.splitlines() if line.startswith(GROUP + " ")]


def run_printed(probe, output, wanted):
    """Runs the commands that refusals name, with the admin's tools."""
    classes = {"kafka-configs.sh": "kafka.admin.ConfigCommand"}
    for command in re.findall(r"(kafka-[a-z-]+\.sh --bootstrap-server [^\n\"']+)", output):
        words = shlex.split(command)
        if words[0] in classes and wanted in words:
            probe.kafka.tool(classes[words[0]], *words[3:])


def wrong_settings_are_refused(probe):
    """And the command that is printed mends them."""
    prefix = "wrong_"
    expect(probe.run("prepare", prefix=prefix)[0] == 0, "it does not start")
    kafka = probe.kafka
    kafka.alter_topic(prefix + "commits", {
        "cleanup.policy": "compact", "retention.ms": 604800000, "retention.bytes": 1000000,
        "message.timestamp.type": "CreateTime", "unclean.leader.election.enable": "true", "max.message.bytes": 1048588})
    kafka.alter_topic(prefix + "kv", {"cleanup.policy": "compact,delete", "delete.retention.ms": 1000,
                                      "min.insync.replicas": 2})
    output = probe.refuse(
        "prepare",
        "topic wrong_commits: cleanup.policy is compact, must be delete: kafka-configs.sh --bootstrap-server %s --alter "
        "--entity-type topics --entity-name wrong_commits --add-config cleanup.policy=delete" % kafka.bootstrap,
        "topic wrong_commits: retention.ms is 604800000, must be -1",
        "topic wrong_commits: retention.bytes is 1000000, must be -1",
        "topic wrong_commits: message.timestamp.type is CreateTime, must be LogAppendTime",
        "topic wrong_commits: unclean.leader.election.enable is true, must be false",
        "topic wrong_commits: max.message.bytes is 1048588, must be at least 1638400",
        "topic wrong_kv: cleanup.policy is compact,delete, must be compact",
        "topic wrong_kv: delete.retention.ms is 1000, must be at least 3600000",
        "topic wrong_kv: min.insync.replicas is 2, must be 1", "BAD_KAFKA", prefix=prefix)
    expect("wrong_leases" not in output, "a good topic is refused:\n%s", output)
    check = probe.refuse("check", "retention.ms is 604800000", prefix=prefix)
    for topic in ("wrong_commits", "wrong_kv"):
        run_printed(probe, check, topic)
    status, output = probe.run("check", prefix=prefix)
    expect(status == 0, "the commands that were printed do not mend it:\n%s", output)


def wrong_shapes_are_refused(probe):
    prefix = "shape_"
    probe.kafka.create_topic(prefix + "leases", partitions=3)
    probe.refuse("prepare", "topic shape_leases: it has 3 partitions, must have 1", "--delete --topic shape_leases",
                 prefix=prefix)
    probe.refuse("check", "topic shape_kv: it has 1 replica, must have at least 3 (kafkacache.topic.replication.factor): "
                 "Kafka has 1 broker: start more", prefix=prefix, replication_factor=3)
    probe.refuse("prepare", "Kafka has 1 broker, but kafkacache.topic.replication.factor is 3", "BAD_KAFKA",
                 prefix="many_", replication_factor=3)


def a_lost_topic_is_noticed(probe):
    prefix = "lost_"
    expect(probe.run("prepare", prefix=prefix)[0] == 0, "it does not start")
    probe.kafka.delete_topic(prefix + "auth")
    probe.refuse("check", "topic lost_auth is missing", prefix=prefix)


def nobody_answers(probe):
    lost = Probe(probe.path, types.SimpleNamespace(sasl=False, client_options=lambda: {"bootstrap.servers": "127.0.0.1:1"}))
    lost.refuse("prepare", "no answer", "NO_KAFKA", "Connection refused", init_timeout_ms=1500)
    lost.refuse("report", "no answer", "kafka-acls.sh")


def printed_acls(output):
    """What kafka-acls would be given for each command, but for old brokers' one."""
    lines = [line for line in output.splitlines() if line.startswith("kafka-acls.sh ")]
    return [shlex.split(line.split(" --add ")[1]) for line in lines if "IdempotentWrite" not in line]


def the_least_rights_are_enough(probe):
    refusal = probe.refuse("prepare", "it cannot be seen", "--operation Describe --topic probe_ --resource-pattern-type "
                           "prefixed", "BAD_KAFKA")
    expect("User:keta" in refusal, "the user's name is missing:\n%s", refusal)
    acls = printed_acls(probe.run("report")[1])
    expect(len(acls) == 4, "not four commands: %s", acls)
    without = list(acls[0])
    place = without.index("DescribeConfigs")
    del without[place - 1:place + 1]
    probe.kafka.add_acls(without)
    probe.refuse("prepare", "its settings cannot be checked", "--operation DescribeConfigs --topic probe_", "BAD_KAFKA")
    probe.kafka.add_acls(acls[0])
    probe.succeed("prepare")
    probe.refuse("report", "ok    Read on all topics", "ok    Write on the tables' topics", "WRONG Delete on topic",
                 "WRONG Read on group", "WRONG Write and Describe on transactional ids")
    for each in acls[1:]:
        probe.kafka.add_acls(each)
    poll(lambda: probe.run("report")[0] == 0, VOTE_LIMIT_SEC, "a good report with the rights that it printed")
    for name in ("check", "log", "tables", "election"):
        probe.succeed(name)


def a_refused_login_is_told(probe):
    wrong = Probe(probe.path, probe.kafka, **{"sasl.password": "wrong"})
    output = wrong.refuse("prepare", "the login was refused", "uthentication failed", "BAD_KAFKA", init_timeout_ms=15000)
    expect("wrong" not in re.sub("went wrong", "", output), "the password is in the log:\n%s", output)


def the_loss_of_brokers_is_borne(probe):
    """Killed, ended in order and paused, the leader of the log's partition each time."""
    kafka = probe.kafka
    probe.succeed("prepare", replication_factor=3)
    expect(kafka.topic_config(PREFIX + "commits")["min.insync.replicas"] == "2", "min.insync.replicas is not 2")
    running = subprocess.Popen(probe.command("endure", {"replication_factor": 3}), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while running.stdout.readline() != "begun\n":
            expect(running.poll() is None, "it has ended")
        for end, begin in ((kafka.kill, kafka.restart), (kafka.terminate, kafka.restart), (kafka.pause, kafka.resume)):
            leader = kafka.leader_of(PREFIX + "commits")
            end(leader)
            poll(lambda: kafka.leader_of(PREFIX + "commits") not in (None, leader), VOTE_LIMIT_SEC, "another leader")
            before = kafka.end_offset(PREFIX + "commits")
            poll(lambda: kafka.end_offset(PREFIX + "commits") > before + 100, VOTE_LIMIT_SEC, "more appends")
            begin(leader)
            poll(lambda: kafka.in_sync(PREFIX + "commits") == [0, 1, 2], VOTE_LIMIT_SEC, "three in sync")
        output = running.communicate("stop\n", timeout=PROBE_LIMIT_SEC)[0]
        expect(running.returncode == 0, "it failed:\n%s", output)
        for line in output.splitlines():
            if "appends" in line or "longest" in line:
                print("    " + line)
    finally:
        running.kill()
        running.wait()
        running.stdin.close()
        running.stdout.close()


def too_few_replicas_are_refused(probe):
    """With as many brokers as there must be replicas, the command that is printed mends it."""
    kafka, prefix = probe.kafka, "few_"
    expect(probe.run("prepare", prefix=prefix)[0] == 0, "it does not start")
    output = probe.refuse("check", "topic few_commits: it has 1 replica, must have at least 3 "
                          "(kafkacache.topic.replication.factor): echo '{\"version\":1",
                          "kafka-reassign-partitions.sh --bootstrap-server", prefix=prefix, replication_factor=3)
    expect(re.search(r'"replicas":\[[012],[012],[012]\]', output), "no brokers are named:\n%s", output)


PLAIN = [topics_are_made_and_found_again, the_log_works, the_tables_work, the_election_works,
         a_killed_leader_is_followed, a_leader_without_kafka_leads_no_more, a_deleted_topic_is_not_made_by_a_broker,
         wrong_settings_are_refused, wrong_shapes_are_refused, a_lost_topic_is_noticed,
         nobody_answers]
MANY = [the_loss_of_brokers_is_borne, too_few_replicas_are_refused]
SECURE = [a_refused_login_is_told, the_least_rights_are_enough]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", metavar="VERSION")
    parser.add_argument("--test", metavar="NAME", action="append", help="only those whose names contain it")
    parser.add_argument("probe", metavar="PROBE")
    options = parser.parse_args()
    passed = failed = 0
    for tests, kind in ((PLAIN, {"settings": {"auto.create.topics.enable": "true"}}),
                        (SECURE, {"sasl": True, "tls": True, "users": {USER: PASSWORD}}),
                        (MANY, {"brokers": 3})):
        tests = [test for test in tests if not options.test or any(name in test.__name__ for name in options.test)]
        if not tests:
            continue
        with KafkaCluster(version=options.kafka, **kind) as kafka:
            for test in tests:
                try:
                    test(Probe(options.probe, kafka))
                    print("ok %s" % test.__name__, flush=True)
                    passed += 1
                except (Failure, OSError, subprocess.TimeoutExpired) as error:
                    print("FAILED %s: %s" % (test.__name__, error), flush=True)
                    failed += 1
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
