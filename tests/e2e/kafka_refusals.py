#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a node refuses to work on, provoked on a real Kafka: that it says what it
found and what mends it, and that what it says does mend it.

    kafka_refusals.py [--kafka VERSION] [--test NAME]... KETAD

What needs logins is in kafka_sasl.py."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time

from gateway import b64, expect, poll
from kafka import EARLIEST, KafkaCluster
from kafka_node import (BAD_CONFIG, BAD_DATA, TOPICS, Node, World, append_records, arguments,
                        chosen, copy_records, delete_records, hashes, leader_of, read_batches, run_tests)

BROKERS = 2
SHORT_LOG_LIMIT_SEC = 60  # a log that is too short is given half a minute
NOTICE_LIMIT_SEC = 90
MEND_LIMIT_SEC = 20
LOOKS_SEC = 12  # the guard looks every ten
WRITERS = 8
RESERVED = {
    "acks": "1", "enable.idempotence": "false", "max.in.flight": "1", "retries": "3", "auto.offset.reset": "earliest",
    "enable.auto.commit": "true", "isolation.level": "read_committed", "transactional.id": "x",
    "transaction.timeout.ms": "1000", "message.timeout.ms": "1000", "partition.assignment.strategy": "range",
    "allow.auto.create.topics": "true", "group.instance.id": "x", "bogus.property": "1",
    "message.max.bytes": "1000",
}


def commits_settings():
    return {"cleanup.policy": "delete", "retention.ms": -1, "retention.bytes": -1,
            "message.timestamp.type": "LogAppendTime", "min.insync.replicas": 1,
            "unclean.leader.election.enable": "false",
            "max.message.bytes": 4 << 20}


def fill(node, count, word="value"):
    for number in range(count):
        node.put("key-%d" % (number % 7), "%s-%d" % (word, number))


# ---------------------------------------------------------------- topics' settings

def is_known(kafka, topic, setting, value):
    """To all brokers; each is told of a change in its own time."""
    return all(kafka.topic_settings(topic, broker)[setting][0] == value for broker in range(BROKERS))


def wrong_settings_refuse_the_start(world):
    prefix, kafka = world.prefix(), world.kafka
    node = Node(world, prefix)
    node.start()
    node.put("a", "1")
    node.stop()
    kafka.alter_topic(prefix + "commits", {
        "cleanup.policy": "compact", "retention.ms": 604800000, "retention.bytes": 1000000,
        "message.timestamp.type": "CreateTime", "unclean.leader.election.enable": "true", "max.message.bytes": 1048588})
    kafka.alter_topic(prefix + "kv", {"cleanup.policy": "delete"})
    kafka.alter_topic(prefix + "leases", {"cleanup.policy": "compact,delete", "delete.retention.ms": 1000})
    node.refuse(
        BAD_CONFIG, "Kafka is not set up as it must be",
        "topic %scommits: cleanup.policy is compact, must be delete" % prefix,
        "topic %scommits: retention.ms is 604800000, must be -1" % prefix,
        "topic %scommits: retention.bytes is 1000000, must be -1" % prefix,
        "topic %scommits: message.timestamp.type is CreateTime, must be LogAppendTime" % prefix,
        "topic %scommits: unclean.leader.election.enable is true, must be false" % prefix,
        "topic %scommits: max.message.bytes is 1048588, must be at least " % prefix,
        "topic %skv: cleanup.policy is delete, must be compact" % prefix,
        "topic %sleases: cleanup.policy is compact,delete, must be compact" % prefix,
        "topic %sleases: delete.retention.ms is 1000, must be at least 3600000" % prefix)
    expect(len(world.mend(node)) == 9, "not one command for each setting: %s", node.commands())
    poll(lambda: is_known(kafka, prefix + "leases", "delete.retention.ms", "3600000"), MEND_LIMIT_SEC,
         "the last command")
    node.start()
    expect(node.read("a") == "1", "the key is gone")


def two_partitions_refuse_the_start(world):
    prefix = world.prefix()
    world.kafka.create_topic(prefix + "commits", partitions=2, replicas=1, settings=commits_settings())
    node = Node(world, prefix)
    node.refuse(BAD_CONFIG, "topic %scommits: it has 2 partitions, must have 1" % prefix)
    world.mend(node)
    poll(lambda: not any(world.kafka.partitions(prefix + "commits", broker) for broker in range(BROKERS)),
         MEND_LIMIT_SEC, "the end of the topic")
    node.start()
    node.put("a", "1")


def too_few_replicas_refuse_the_start(world):
    prefix = world.prefix()
    node = Node(world, prefix)
    node.start()
    node.put("a", "1")
    node.stop()
    node.settings["kafkacache.topic.replication.factor"] = 2
    node.refuse(BAD_CONFIG, "topic %scommits: it has 1 replica, must have at least 2 "
                "(kafkacache.topic.replication.factor)" % prefix)
    world.mend(node)
    poll(lambda: all(len(world.kafka.in_sync(prefix + name)) == 2 for name in TOPICS), 60, "two replicas in sync")
    node.refuse(BAD_CONFIG, "topic %scommits: min.insync.replicas is 1, must be at least 2" % prefix)
    world.mend(node)
    poll(lambda: all(is_known(world.kafka, prefix + name, "min.insync.replicas", "2") for name in TOPICS),
         MEND_LIMIT_SEC, "the commands")
    node.start()
    expect(node.read("a") == "1", "the key is gone")


def too_few_brokers_refuse_the_start(world):
    prefix = world.prefix()
    node = Node(world, prefix, factor=3)
    node.refuse(BAD_CONFIG, "Kafka has 2 brokers, but kafkacache.topic.replication.factor is 3: start more, or lower "
                            "the property")
    node.settings["kafkacache.topic.replication.factor"] = 2
    node.start()


def expect_held_up(node, topic, kafka, found):
    """It writes nothing, and says so."""
    node.signal()
    node.expect_said(found, MEND_LIMIT_SEC)
    poll(lambda: node.get("/readyz")[0] == 503, MEND_LIMIT_SEC, "503 from /readyz")
    status, answer = node.call("kv/put", {"key": b64("a"), "value": b64("lost")})
    expect(status == 503 and answer["code"] == 14, "a write was answered %s %s", status, answer)
    expect("Kafka is not set up as it must be" in answer["message"], "the write was told %s", answer)
    status, answer = node.call("kv/range", {"key": b64("a")})
    expect(status == 503 and answer["code"] == 14, "a linearizable read was answered %s %s", status, answer)
    expect(node.read("a", serializable=True) == "1", "serializable reads do not go on")
    status, text = node.get("/health")
    expect(status == 503 and json.loads(text)["health"] == "false", "/health says %s %s", status, text)
    expect("Kafka is not set up as it must be" in node.get("/readyz?verbose")[1], "/readyz does not say why")
    expect(node.get("/livez")[0] == 200, "/livez says that the process is no good")


def wrong_settings_stop_the_writes_of_a_running_node(world):
    prefix, kafka = world.prefix(), world.kafka
    commits = prefix + "commits"
    node = Node(world, prefix)
    node.start()
    node.put("a", "1")
    lease = node.must("lease/grant", {"TTL": 600})["ID"]
    for topic, setting, wrong in (("commits", "cleanup.policy", "compact"), ("commits", "retention.ms", "604800000"),
                                  ("commits", "max.message.bytes", "100000"),
                                  ("commits", "unclean.leader.election.enable", "true"),
                                  ("kv", "cleanup.policy", "delete")):
        kafka.alter_topic(prefix + topic, {setting: wrong})
        node.log_from = os.path.getsize(node.log_path)
        expect_held_up(node, commits, kafka, "topic %s: %s is %s, must be " % (prefix + topic, setting, wrong))
        end = kafka.end_offset(commits)
        node.call("lease/keepalive", {"ID": lease}, timeout=2)
        world.mend(node)
        expect(kafka.end_offset(commits) == end, "%d records were written meanwhile", kafka.end_offset(commits) - end)
        node.signal()
        poll(lambda: node.get("/readyz")[0] == 200, MEND_LIMIT_SEC, "/readyz")
        node.expect_said("Kafka is set up as it must be again")
        expect(node.get("/health")[0] == 200 and node.read("a") == "1", "it does not go on")
        node.put("b", setting)
    expect(node.read("a") == "1", "a refused write happened")


def a_running_node_goes_on_by_itself_when_settings_are_mended(world):
    prefix, kafka = world.prefix(), world.kafka
    node = Node(world, prefix)
    node.start()
    node.put("a", "1")
    kafka.alter_topic(prefix + "commits", {"min.insync.replicas": 2})
    expect_held_up(node, prefix + "commits", kafka, "topic %scommits: min.insync.replicas is 2, must be 1" % prefix)
    world.mend(node)
    poll(lambda: node.get("/readyz")[0] == 200, MEND_LIMIT_SEC, "/readyz")
    node.put("a", "2")


# ---------------------------------------------------------------- the wrong log

def stopped_node(world, prefix, writes=40, checkpoint=False):
    node = Node(world, prefix)
    node.start()
    fill(node, writes)
    if checkpoint:
        node.checkpoint()
        fill(node, 5, "late")
    node.stop()
    return node


def start_anew_as_told(node):
    """Does what the refusal advises: the log that is there now is to be kept."""
    node.expect_said("delete this node's data directory and start it again")
    shutil.rmtree(node.data)
    node.start()
    node.put("new", "1")
    expect(node.read("new") == "1", "it cannot be read back")


def a_log_made_anew_and_empty_is_refused(world):
    prefix = world.prefix()
    node = stopped_node(world, prefix)
    world.kafka.delete_topic(prefix + "commits")
    node.refuse(BAD_DATA, "the log ends before what this node has applied",
                "the log in Kafka is not the one that this node follows", limit_sec=SHORT_LOG_LIMIT_SEC)
    start_anew_as_told(node)
    expect(node.read("key-1") is None, "the old log's data is there")


def a_log_made_anew_beside_a_checkpoint_is_refused(world):
    prefix, kafka = world.prefix(), world.kafka
    node = stopped_node(world, prefix, checkpoint=True)
    kafka.delete_topic(prefix + "commits")
    node.refuse(BAD_DATA, "the log ends before what this node has applied", limit_sec=SHORT_LOG_LIMIT_SEC)
    shutil.rmtree(node.data)
    node.refuse(BAD_DATA, "the log ends before the newest checkpoint", limit_sec=SHORT_LOG_LIMIT_SEC)
    node.expect_said("delete all of them and the data directory of every node")
    world.run("kafka-topics.sh --bootstrap-server %s --delete --topic '%s.*'" % (kafka.bootstrap, prefix))
    poll(lambda: not any(kafka.partitions(prefix + name, broker.number) for name in TOPICS
                         for broker in kafka.answering()), MEND_LIMIT_SEC, "the end of the topics")
    node.start()
    node.put("new", "1")


def a_log_of_other_nodes_is_refused(world):
    prefix, kafka = world.prefix(), world.kafka
    node = stopped_node(world, prefix)
    kafka.delete_topic(prefix + "commits")
    other = Node(world, prefix, "other")
    other.start()
    fill(other, 80, "other")
    node.refuse(BAD_DATA, "another record stands at its position")
    start_anew_as_told(node)
    expect(node.read("key-1") == other.read("key-1"), "the two differ")
    expect(len(set(hashes([node, other]))) == 1, "the hashes differ")


def a_lost_tail_is_refused(world):
    prefix, kafka = world.prefix(), world.kafka
    commits = prefix + "commits"
    node = stopped_node(world, prefix)
    batches = read_batches(kafka, commits)
    kafka.delete_topic(commits)
    kafka.create_topic(commits, replicas=1, settings=commits_settings())
    copy_records(kafka, batches, commits, before=30)
    node.refuse(BAD_DATA, "the log ends before what this node has applied", limit_sec=SHORT_LOG_LIMIT_SEC)
    start_anew_as_told(node)
    expect(node.read("key-1") is not None, "what is left of the log was not read")


def a_lost_tail_that_was_written_over_is_refused(world):
    prefix, kafka = world.prefix(), world.kafka
    commits = prefix + "commits"
    node = stopped_node(world, prefix)
    batches = read_batches(kafka, commits)
    kafka.delete_topic(commits)
    kafka.create_topic(commits, replicas=1, settings=commits_settings())
    copy_records(kafka, batches, commits, before=30)
    other = Node(world, prefix, "other")
    other.start()
    fill(other, 40, "other")
    node.refuse(BAD_DATA, "another record stands at its position")
    start_anew_as_told(node)
    expect(len(set(hashes([node, other]))) == 1, "the hashes differ")


def expect_both_stop(nodes, acknowledged):
    """Neither serves what is not the log: 'acknowledged' is asked as long as they run."""
    def ended():
        for node in nodes:
            if node.is_running():
                expect(not acknowledged(node), "%s acknowledged a write to the wrong log", node.name)
        return not any(node.is_running() for node in nodes)
    poll(ended, NOTICE_LIMIT_SEC, "the end of both nodes", pause_sec=0.5)
    for node in nodes:
        node.expect_end(BAD_DATA, "the log in Kafka is not the one that this node follows")


def a_write_to(node):
    return node.call("kv/put", {"key": b64("a"), "value": b64("wrong")}, timeout=1,
                     headers={"Grpc-Timeout": "500m"})[0] == 200


def running_pair(world, prefix):
    nodes = [Node(world, prefix, "n%d" % number) for number in range(2)]
    for node in nodes:
        node.start()
    fill(nodes[0], 40)
    hashes(nodes)
    return nodes


def a_log_deleted_under_running_nodes_is_noticed(world):
    """And made anew at once, as by somebody who meant well."""
    prefix, kafka = world.prefix(), world.kafka
    nodes = running_pair(world, prefix)
    kafka.delete_topic(prefix + "commits")
    kafka.create_topic(prefix + "commits", replicas=1, settings=commits_settings())
    expect_both_stop(nodes, a_write_to)


def a_log_overtaken_under_running_nodes_is_noticed(world):
    """Made anew, and then the nodes themselves fill it beyond where they are: their own records look right."""
    prefix, kafka = world.prefix(), world.kafka
    nodes = running_pair(world, prefix)
    poll(lambda: nodes[0].metrics()["process_start_time_seconds"] + LOOKS_SEC < time.time(), LOOKS_SEC * 2,
         "a look of the guard's at the sound log")
    kafka.delete_topic(prefix + "commits")
    kafka.create_topic(prefix + "commits", replicas=1, settings=commits_settings())

    def write(node):
        while node.is_running() and node.call("kv/put", {"key": b64("a"), "value": b64("wrong")}, timeout=2,
                                              headers={"Grpc-Timeout": "200m"})[0] != 200:
            pass
    writers = [threading.Thread(target=write, args=(node,)) for node in nodes for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        expect_both_stop(nodes, lambda node: False)
    finally:
        for node in nodes:
            node.kill()
        for writer in writers:
            writer.join()


def a_log_refilled_under_running_nodes_is_noticed(world):
    prefix, kafka = world.prefix(), world.kafka
    stranger = Node(world, world.prefix(), "stranger")
    stranger.start()
    fill(stranger, 100, "stranger")
    batches = read_batches(kafka, stranger.prefix + "commits")
    nodes = running_pair(world, prefix)
    kafka.delete_topic(prefix + "commits")
    kafka.create_topic(prefix + "commits", replicas=1, settings=commits_settings())
    copy_records(kafka, batches, prefix + "commits")
    expect_both_stop(nodes, a_write_to)
    for node in nodes:
        expect(not node.find("stranger"), "it took the stranger's records")


def a_log_that_is_missing_stops_the_writes(world):
    prefix, kafka = world.prefix(), world.kafka
    node = Node(world, prefix)
    node.start()
    node.put("a", "1")
    kafka.delete_topic(prefix + "commits")
    node.signal()
    node.expect_said("topic %scommits is missing: it was deleted" % prefix, NOTICE_LIMIT_SEC)
    poll(lambda: node.get("/readyz")[0] == 503, MEND_LIMIT_SEC, "503 from /readyz")
    status, answer = node.call("kv/put", {"key": b64("a"), "value": b64("lost")})
    expect(status == 503 and answer["code"] == 14, "a write was answered %s %s", status, answer)
    expect(node.read("a", serializable=True) == "1", "serializable reads do not go on")


# ---------------------------------------------------------------- somebody else's

def a_database_of_another_cluster_is_refused(world):
    first, second = world.prefix(), world.prefix()
    node = stopped_node(world, first, checkpoint=True)
    other = Node(world, second, "other")
    other.start()
    fill(other, 100, "other")
    other.checkpoint()
    node.settings["topic.prefix"] = second
    node.refuse(BAD_DATA, "the tables belong to another cluster than this node's database",
                "check kafkacache.bootstrap.servers and topic.prefix, or give this node another data directory")
    node.settings["topic.prefix"] = first
    node.start()
    expect(node.read("key-1") is not None, "the data is gone")


def a_database_of_another_log_is_refused(world):
    """Where no checkpoint tells of the other cluster."""
    first, second = world.prefix(), world.prefix()
    node = stopped_node(world, first)
    other = Node(world, second, "other")
    other.start()
    fill(other, 100, "other")
    node.settings["topic.prefix"] = second
    node.refuse(BAD_DATA, "another record stands at its position")
    node.settings["topic.prefix"] = first
    node.start()
    expect(node.read("key-1") is not None, "the data is gone")


def another_kafka_is_refused(world):
    prefix = world.prefix()
    node = stopped_node(world, prefix)
    with KafkaCluster(version=world.kafka.version) as kafka:
        node.settings["kafkacache.bootstrap.servers"] = kafka.bootstrap
        node.refuse(BAD_DATA, "another Kafka")
    node.settings["kafkacache.bootstrap.servers"] = world.kafka.bootstrap
    node.start()
    expect(node.read("key-1") is not None, "the data is gone")


def a_database_of_a_server_alone_is_refused(world):
    """And a replica's by a server that is alone."""
    prefix = world.prefix()
    data = os.path.join(world.directory, "alone")
    command = [world.ketad, "--data-dir", data, "--listen-client-urls", "http://127.0.0.1:0", "--log-format", "json"]
    alone = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in alone.stderr:
        if '"ready"' in line:
            alone.terminate()
    expect(alone.wait() == 0, "the server alone ended with %s", alone.returncode)
    node = Node(world, prefix)
    node.settings["kafkacache.data.dir"] = data
    node.refuse(BAD_DATA, "the database belongs to a server without Kafka",
                "give this node another data directory, or remove kafkacache.bootstrap.servers to go on without Kafka")
    node.settings["kafkacache.data.dir"] = node.data
    node.start()
    node.stop()
    command[2] = node.data
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=20)
    expect(done.returncode == BAD_DATA and "kafkacache.bootstrap.servers" in done.stderr,
           "alone on a replica's database: %s %s", done.returncode, done.stderr)


def properties_without_servers_are_refused(world):
    command = [world.ketad, "--listen-client-urls", "http://127.0.0.1:0", "--data-dir",
               os.path.join(world.directory, "none")]
    for key in ("kafkacache.group.id=n1", "kafkacache.security.protocol=ssl", "kafkacache.topic.replication.factor=1",
                "read.barrier=watermark", "log.skip.offset=5"):
        done = subprocess.run(command + ["--set", key], stderr=subprocess.PIPE, text=True, timeout=20)
        expect(done.returncode == BAD_CONFIG, "%s: exit status %d", key, done.returncode)
        for text in (key.split("=")[0], "kafkacache.bootstrap.servers"):
            expect(text in done.stderr, "%s: nothing about %s in %s", key, text, done.stderr)


def reserved_properties_are_refused(world):
    node = Node(world, world.prefix())
    for name, value in RESERVED.items():
        node.settings["kafkacache." + name] = value
        node.refuse(BAD_CONFIG, "kafkacache." + name, limit_sec=20)
        del node.settings["kafkacache." + name]
    node.settings.update({"kafkacache." + name: value for name, value in RESERVED.items()})
    node.refuse(BAD_CONFIG, *("kafkacache." + name for name in RESERVED), limit_sec=20)
    node.settings = {key: value for key, value in node.settings.items() if key[len("kafkacache."):] not in RESERVED}
    node.settings["kafkacache.linger.ms"] = 1  # one that is let through
    node.start()


def the_older_of_two_nodes_of_one_name_stops(world):
    prefix = world.prefix()
    older, newer = Node(world, prefix, "twin"), Node(world, prefix, "newer")
    newer.settings["kafkacache.group.id"] = "twin"
    older.start()
    older.put("a", "1")
    newer.start()
    older.expect_end(BAD_CONFIG, "another node has joined under the name of this one, which stops",
                     "give every node a kafkacache.group.id of its own")
    newer.put("a", "2")
    expect(newer.read("a") == "2", "the newer does not serve")
    older.settings["kafkacache.group.id"] = "older"
    older.start()
    expect(older.read("a") == "2" and newer.read("a") == "2", "the two do not go together")


# ---------------------------------------------------------------- gaps

def a_gap_without_a_checkpoint_is_refused(world):
    """Until a node that has the data writes one."""
    prefix, kafka = world.prefix(), world.kafka
    node, other = Node(world, prefix, leader__eligibility="false"), Node(world, prefix, "other")
    for each in (node, other):
        each.start()
    fill(other, 20)
    hashes([node, other])
    node.stop()
    fill(other, 40, "while away")
    delete_records(kafka, prefix + "commits", kafka.end_offset(prefix + "commits") - 3)
    node.refuse(BAD_DATA, "the log begins behind this node's position, and there is no checkpoint to go by",
                "start from a node that still has its data directory")
    other.checkpoint()
    node.start()
    expect(node.dump() == other.dump(), "the data differs")
    expect(len(set(hashes([node, other]))) == 1, "the hashes differ")


def an_old_node_rebuilds_itself(world):
    """Behind the log's first record, with a checkpoint that covers what is missing."""
    prefix, kafka = world.prefix(), world.kafka
    old = Node(world, prefix, "old", leader__eligibility="false")
    ahead = Node(world, prefix, "ahead")
    ahead.start()
    old.start()
    fill(ahead, 20)
    hashes([old, ahead])
    old.stop()
    lease = ahead.must("lease/grant", {"TTL": 4000})["ID"]
    ahead.put("leased", "1", lease=lease)
    fill(ahead, 60, "while away")
    ahead.must("kv/deleterange", {"key": b64("key-3")})
    ahead.must("kv/compaction", {"revision": 30})
    ahead.checkpoint()
    fill(ahead, 10, "after the checkpoint")
    ahead.checkpoint()
    fill(ahead, 3, "at last")
    delete_records(kafka, prefix + "commits", int(ahead.metrics()["keta_checkpoint_offset"]))
    first = kafka.end_offset(prefix + "commits", timestamp=EARLIEST)
    expect(first > 60, "the log still begins at %d", first)
    wanted = ahead.dump()
    old.start()
    old.expect_said("the database is built anew from Kafka")
    expect(old.dump() == wanted, "the rebuilt node has other data:\n%s\n%s", str(old.dump())[:2000], str(wanted)[:2000])
    expect(len(set(hashes([old, ahead]))) == 1, "the hashes differ")
    ahead.must("lease/revoke", {"ID": lease})
    expect(old.read("leased") is None, "the lease's key outlives it")
    empty = Node(world, prefix, "empty")
    empty.start()
    expect(empty.dump() == ahead.dump(), "an empty node has other data")


# ---------------------------------------------------------------- poison

def a_poison_record_stops_writes_until_it_is_skipped(world):
    prefix, kafka = world.prefix(), world.kafka
    nodes = [Node(world, prefix, "n%d" % number) for number in range(2)]
    for node in nodes:
        node.start()
    nodes[0].put("a", "1")
    hashes(nodes)
    offset = append_records(kafka, prefix + "commits", b"\xff\xfegarbage that no node has written") + 1
    for node in nodes:
        line = node.expect_said("a log record cannot be applied; this node goes no further", MEND_LIMIT_SEC)
        expect(int(line["offset"]) == offset, "it names offset %s, not %d", line["offset"], offset)
        expect("log.skip.offset" in line["advice"], "it does not say what to do: %s", line)
        poll(lambda each=node: each.get("/readyz")[0] == 503, MEND_LIMIT_SEC, "503 from /readyz")
        status, answer = node.call("kv/put", {"key": b64("a"), "value": b64("2")})
        expect(status == 503, "a write was answered %s %s", status, answer)
        status, answer = node.call("kv/range", {"key": b64("a")})
        expect(status == 503, "a linearizable read was answered %s %s", status, answer)
        expect(node.read("a", serializable=True) == "1", "serializable reads do not go on")
        expect(node.get("/health")[0] == 503, "/health is well")
        expect(len(node.find("cannot be applied")) == 1, "it says so again and again")
    for node in nodes:
        node.stop()
        node.settings["log.skip.offset"] = offset
    for node in nodes:
        node.start()
        node.expect_said("a log record is passed over, as log.skip.offset says")
    nodes[0].put("a", "3")
    nodes[1].put("b", "1")
    expect(len(set(hashes(nodes))) == 1, "the hashes differ")
    for node in nodes:
        node.stop()
        del node.settings["log.skip.offset"]  # as the documentation says
        node.start()
    expect(nodes[1].read("a") == "3", "it does not go on without log.skip.offset")
    late = Node(world, prefix, "late")
    late.settings["log.skip.offset"] = offset
    late.start()
    expect(len(set(hashes([*nodes, late]))) == 1, "the hashes differ")


TESTS = [
    properties_without_servers_are_refused, reserved_properties_are_refused, wrong_settings_refuse_the_start,
    two_partitions_refuse_the_start, too_few_replicas_refuse_the_start, too_few_brokers_refuse_the_start,
    wrong_settings_stop_the_writes_of_a_running_node, a_running_node_goes_on_by_itself_when_settings_are_mended,
    the_older_of_two_nodes_of_one_name_stops, a_database_of_a_server_alone_is_refused,
    a_database_of_another_cluster_is_refused, a_database_of_another_log_is_refused, another_kafka_is_refused,
    a_gap_without_a_checkpoint_is_refused, an_old_node_rebuilds_itself,
    a_poison_record_stops_writes_until_it_is_skipped, a_log_of_other_nodes_is_refused, a_lost_tail_is_refused,
    a_lost_tail_that_was_written_over_is_refused, a_log_made_anew_and_empty_is_refused,
    a_log_made_anew_beside_a_checkpoint_is_refused, a_log_that_is_missing_stops_the_writes,
    a_log_deleted_under_running_nodes_is_noticed, a_log_overtaken_under_running_nodes_is_noticed,
    a_log_refilled_under_running_nodes_is_noticed,
]


def main():
    options = arguments(__doc__, TESTS).parse_args()
    with KafkaCluster(brokers=BROKERS, version=options.kafka) as kafka, World(options.ketad, kafka) as world:
        return run_tests(chosen(options, TESTS), world)


if __name__ == "__main__":
    sys.exit(main())
