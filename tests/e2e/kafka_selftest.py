#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether the Kafka that other tests use (kafka.py, proxy.py, contrib/kafka/kafka)
does what they are told: real brokers, with kcat as the client.

    kafka_selftest.py [--kafka VERSION] [TEST...]

The first run with a version of Kafka downloads it."""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types

from gateway import Failure, expect, poll, run_tests
from kafka import EARLIEST, SCRIPT, KafkaCluster, KafkaError, Wire, free_ports, is_free

HERE = os.path.dirname(os.path.abspath(__file__))
FEW_SEC = 30
PATIENCE = {"message.timeout.ms": 4000, "socket.timeout.ms": 3000, "log_level": 0}


def kcat(options, *arguments, text="", check=True, limit_sec=FEW_SEC):
    command = ["kcat", *arguments]
    for item in {**PATIENCE, **options}.items():
        if arguments[0] == "-P" or item[0] != "message.timeout.ms":
            command += ["-X", "%s=%s" % item]
    try:
        done = subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=limit_sec)
    except subprocess.TimeoutExpired:
        raise Failure("kcat %s did not end" % " ".join(arguments)) from None
    expect(not check or done.returncode == 0, "kcat %s: %s", " ".join(arguments), done.stderr)
    return done


def produce(options, topic, *values, **more):
    return kcat({"acks": "all", **options}, "-P", "-t", topic, text="".join(value + "\n" for value in values), **more)


def consume(options, topic, **more):
    return kcat(options, "-C", "-q", "-e", "-t", topic, "-o", "beginning", **more).stdout.split()


def expect_records(options, topic, *values):
    found = consume(options, topic)
    expect(found == list(values), "%s holds %s and not %s", topic, found, values)


def fails(done):
    return done.returncode != 0 or "failed" in done.stderr.lower()


def cluster(context, brokers=1, **more):
    kafka = KafkaCluster(brokers, version=context.version, **more)
    took = kafka.start()
    print("%d broker(s) answered after %.1f s" % (brokers, took), flush=True)
    return kafka


# ---------------------------------------------------------------- tests

def one_broker_keeps_records(context):
    with cluster(context) as kafka:
        kafka.create_topic("events")
        produce(kafka.client_options(), "events", "one", "two")
        expect_records(kafka.client_options(), "events", "one", "two")
        expect(kafka.end_offset("events") == 2, "the end is %s", kafka.end_offset("events"))
        group = kcat({"auto.offset.reset": "earliest", **kafka.client_options()}, "-G", "readers", "-q", "-c", "2",
                     "events").stdout.split()
        expect(group == ["one", "two"], "a group reads %s", group)
        kafka.kill(0)
        expect(kafka.pids == [None], "it is still there")
        print("and again after %.1f s" % kafka.restart(0))
        produce(kafka.client_options(), "events", "three")
        expect_records(kafka.client_options(), "events", "one", "two", "three")


def topics_are_made_changed_and_made_again(context):
    with cluster(context) as kafka:
        kafka.create_topic("rows", partitions=2, settings={"cleanup.policy": "compact", "segment.bytes": 1 << 20})
        config = kafka.topic_config("rows")
        expect(config["cleanup.policy"] == "compact" and config["segment.bytes"] == "1048576", "%s", config)
        expect(len(kafka.partitions("rows")) == 2, "%s", kafka.partitions("rows"))
        kafka.alter_topic("rows", {"max.message.bytes": 5000000, "cleanup.policy": None})
        config = kafka.topic_config("rows")
        expect(config["cleanup.policy"] == "delete" and config["max.message.bytes"] == "5000000", "%s", config)
        try:
            kafka.create_topic("rows")
            raise Failure("one can make a topic twice")
        except KafkaError as error:
            expect(error.code == 36, "%s", error)
        kafka.delete_topic("rows")
        expect("rows" not in kafka.topics(), "it is still there: %s", kafka.topics())
        kafka.create_topic("rows")
        expect(kafka.end_offset("rows") == 0 and kafka.end_offset("rows", timestamp=EARLIEST) == 0, "it is not empty")
        expect("rows" in kafka.tool("org.apache.kafka.tools.TopicCommand", "--list").split(), "the tool lists others")
        expect(fails(produce(kafka.client_options(), "made-by-nobody", "x", check=False)), "topics make themselves")


def three_brokers_bear_the_loss_of_one(context):
    with cluster(context, 3) as kafka:
        options = kafka.client_options()
        kafka.create_topic("events")
        expect(kafka.topic_config("events")["min.insync.replicas"] == "2", "%s", kafka.topic_config("events"))
        expect(kafka.in_sync("events") == [0, 1, 2], "in sync are %s", kafka.in_sync("events"))
        produce(options, "events", "one")
        old = kafka.leader_of("events")
        kafka.kill(old)
        begun = time.monotonic()
        poll(lambda: kafka.leader_of("events") not in (None, old), FEW_SEC, "another leader")
        print("another leader after %.1f s" % (time.monotonic() - begun))
        produce({**options, "message.timeout.ms": 20000}, "events", "two")
        kafka.restart(old)
        poll(lambda: kafka.in_sync("events") == [0, 1, 2], FEW_SEC, "three in sync again")

        old = kafka.leader_of("events")
        kafka.pause(old)
        poll(lambda: kafka.leader_of("events") not in (None, old), FEW_SEC, "another leader than the paused one")
        produce({**options, "message.timeout.ms": 20000}, "events", "three")
        kafka.resume(old)
        poll(lambda: kafka.in_sync("events") == [0, 1, 2], FEW_SEC, "three in sync after the pause")
        expect_records(options, "events", "one", "two", "three")


def two_of_three_that_are_lost_stop_writes(context):
    with cluster(context, 3) as kafka:
        kafka.create_topic("events")
        kafka.terminate(0)
        kafka.terminate(1)
        alone = produce(kafka.client_options(), "events", "one", check=False)
        expect(fails(alone), "one broker of three took a record")
        kafka.restart(0)
        kafka.restart(1)
        poll(lambda: kafka.in_sync("events") == [0, 1, 2], FEW_SEC, "three in sync again")
        produce(kafka.client_options(), "events", "two")


def links_are_cut_stalled_and_slow(context):
    with cluster(context, proxied_nodes=2) as kafka:
        kafka.create_topic("events")
        proxy = kafka.proxy
        first, second = kafka.client_options(node=0), kafka.client_options(node=1)
        expect(len({first["bootstrap.servers"], second["bootstrap.servers"], kafka.bootstrap}) == 3, "%s", first)
        with Wire(proxy.port(0, 0)) as wire:
            told = wire.metadata()[0]
            expect(told == {0: ("127.0.0.1", proxy.port(0, 0))}, "a node is told of %s", told)
        produce(first, "events", "one")
        expect(proxy.counts()[0, 0]["requests"] > 0 and proxy.counts()[1, 0]["connections"] == 0, "%s", proxy.counts())

        proxy.cut(node=0)
        try:
            socket.create_connection(("127.0.0.1", proxy.port(0, 0)), 5)
            raise Failure("a link that is cut takes connections")
        except ConnectionRefusedError:
            pass
        expect(fails(produce(first, "events", "lost", check=False)), "a record passed a link that is cut")
        produce(second, "events", "two")
        proxy.heal(node=0)
        produce(first, "events", "three")

        proxy.stall(node=1)
        socket.create_connection(("127.0.0.1", proxy.port(1, 0)), 5).close()
        expect(fails(produce(second, "events", "lost", check=False)), "a record passed a link that is stalled")
        proxy.heal()
        proxy.delay(100, node=1)
        with Wire(proxy.port(1, 0)) as wire:
            begun = time.monotonic()
            wire.metadata()
            took = time.monotonic() - begun
        expect(0.2 <= took < 2, "with 100 ms each way an answer took %.3f s", took)
        proxy.heal()
        produce(second, "events", "four")
        expect_records(kafka.client_options(), "events", "one", "two", "three", "four")


def what_was_sent_before_an_end_arrives_late(context):
    """A request on a stalled link whose client has died is the broker's afterwards; answers can be held back alone."""
    with cluster(context, proxied_nodes=1) as kafka:
        kafka.create_topic("first")
        for what, call in (("answers", lambda wire: wire.delete_topic("first")),
                           ("requests", lambda wire: wire.create_topic("second", 1, 1, {}))):
            kafka.proxy.stall(what=what)
            with Wire(kafka.proxy.port(0, 0), timeout=1) as wire:
                try:
                    raise Failure("there was an answer: %s" % call(wire))
                except TimeoutError:
                    pass
            poll(lambda: "first" not in kafka.topics(), FEW_SEC, "that the request whose answer was lost arrives")
        expect(kafka.topics() == [], "there is %s", kafka.topics())
        kafka.proxy.heal()
        poll(lambda: kafka.topics() == ["second"], FEW_SEC, "that the late request arrives")


def mechanism_for_kcat(context):
    """Kafka 4 takes SCRAM only from a librdkafka that speaks it well."""
    version = re.search(r"librdkafka ([0-9.]+)", kcat({}, "-V", check=False).stdout).group(1)
    speaks_well = [int(part) for part in version.split(".")] >= [2, 6, 1]
    is_strict = (context.version or "3").split(".")[0] != "3"
    return "PLAIN" if is_strict and not speaks_well else "SCRAM-SHA-256"


def rights_and_secrecy(context, brokers=1, tls=True):
    with cluster(context, brokers, sasl=True, tls=tls, users={"keta": "secret", "other": "secret too"},
                 mechanism=mechanism_for_kcat(context), proxied_nodes=1) as kafka:
        kafka.create_topic("events")
        keta = kafka.client_options("keta")
        expect(keta["security.protocol"] == ("SASL_SSL" if tls else "SASL_PLAINTEXT"), "%s", keta)
        expect(fails(produce(keta, "events", "no", check=False)), "a record was taken without a right")
        kafka.add_acls(["--allow-principal", "User:keta", "--operation", "Read", "--operation", "Write", "--operation",
                        "Describe", "--topic", "events"])
        kafka.add_acls(["--allow-principal", "User:keta", "--operation", "IdempotentWrite", "--cluster"])
        produce({**keta, "enable.idempotence": "true"}, "events", "one")
        produce(kafka.client_options("keta", node=0), "events", "two")
        produce(kafka.client_options(), "events", "three")
        expect_records(keta, "events", "one", "two", "three")
        other = produce(kafka.client_options("other"), "events", "no", check=False)
        expect(fails(other), "another was let in")
        wrong = produce(kafka.client_options("keta", password="guess"), "events", "no", check=False)
        expect(fails(wrong), "a wrong password was taken")
        if tls:
            stranger = dict(keta)
            del stranger["ssl.ca.location"]
            expect(fails(produce(stranger, "events", "no", check=False)), "nobody checks the certificate")
        expect(kafka.end_offset("events") == 3, "%d records got in", kafka.end_offset("events"))


def kafkas_tools_have_a_user(context):
    tool = "org.apache.kafka.tools.TopicCommand"
    with cluster(context, sasl=True, tls=True, mechanism="SCRAM-SHA-512", users={"keta": "secret"}) as kafka:
        kafka.create_topic("events")
        expect("events" in kafka.tool(tool, "--list", user="admin").split(), "the admin does not see it")
        expect("events" not in kafka.tool(tool, "--list", user="keta").split(), "it is seen without a right")
        wrong = kafka.tool(tool, "--list", user="admin", password="guess", check=False)
        expect("SaslAuthenticationException" in wrong, "a wrong password: %s", wrong)


def three_brokers_with_passwords(context):
    rights_and_secrecy(context, 3, tls=False)


def tls_without_passwords(context):
    with cluster(context, tls=True) as kafka:
        kafka.create_topic("events")
        produce(kafka.client_options(), "events", "one")
        expect_records(kafka.client_options(), "events", "one")


KILLED = """
import sys, time
from kafka import KafkaCluster
with KafkaCluster(version=sys.argv[1] or None, base_dir=sys.argv[2], proxied_nodes=1) as kafka:
    print(kafka.pids[0], kafka.proxy.process.pid, flush=True)
    kafka.pause(0)
    time.sleep(600)
"""


def nothing_is_left_behind(context):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with tempfile.TemporaryDirectory(prefix="keta-kafka-left-") as base:
            command = [sys.executable, "-B", "-c", KILLED, context.version or "", base]
            process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            pids = process.stdout.readline().split()
            expect(len(pids) == 2 and os.listdir(base), "it did not start")
            process.send_signal(number)
            process.wait()
            process.stdout.close()
            poll(lambda: not os.listdir(base), FEW_SEC, "the end of the directory after signal %d" % number)
            poll(lambda: not any(os.path.exists("/proc/" + pid) for pid in pids), FEW_SEC, "the end of the processes")


def the_script_starts_and_stops(context):
    port = next(port for port in free_ports(50) if all(is_free(port + more) for more in (1, 10, 11)))
    environment = dict(os.environ, **({"KAFKA_VERSION": context.version} if context.version else {}))

    def script(*arguments, status=0):
        done = subprocess.run([SCRIPT, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, text=True)
        expect(done.returncode == status, "kafka %s:\n%s", " ".join(arguments), done.stdout)
        return done.stdout

    with tempfile.TemporaryDirectory(prefix="keta-kafka-script-") as home:
        place = ["--dir", os.path.join(home, "data")]
        try:
            servers = "127.0.0.1:%d,127.0.0.1:%d" % (port, port + 1)
            text = script("start", "--brokers", "2", "--port", str(port), *place)
            expect(text.endswith("bootstrap.servers=%s\n" % servers), "%s", text)
            script("run-tool", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", servers, "--create",
                   "--topic", "events")
            produce({"bootstrap.servers": servers}, "events", "one")
            expect("bootstrap.servers=" in script("status", *place), "it does not say that they run")
            script("stop", *place)
            script("status", *place, status=1)
            script("start", "--brokers", "2", "--port", str(port), *place)
            # Brokers that all went at once show their end as too low until they have heard each other.
            poll(lambda: consume({"bootstrap.servers": servers}, "events") == ["one"], FEW_SEC, "the record of before")
        finally:
            script("stop", *place)


TESTS = [one_broker_keeps_records, topics_are_made_changed_and_made_again, three_brokers_bear_the_loss_of_one,
         two_of_three_that_are_lost_stop_writes, links_are_cut_stalled_and_slow,
         what_was_sent_before_an_end_arrives_late, rights_and_secrecy, kafkas_tools_have_a_user,
         three_brokers_with_passwords, tls_without_passwords, nothing_is_left_behind, the_script_starts_and_stops]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", metavar="VERSION", default=os.environ.get("KAFKA_VERSION"),
                        help="instead of the script's")
    parser.add_argument("tests", metavar="TEST", nargs="*", help="those whose names contain it")
    options = parser.parse_args()
    tests = [test for test in TESTS if not options.tests or any(part in test.__name__ for part in options.tests)]
    context = types.SimpleNamespace(version=options.kafka)
    return run_tests(tests, context, context)


if __name__ == "__main__":
    sys.exit(main())
