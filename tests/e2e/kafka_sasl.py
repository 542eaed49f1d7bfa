#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Nodes that log in to a Kafka with TLS and rights: those that
`ketad --check-config` prints are enough for everything, each that is missing is
named, and so is a login that is refused.

    kafka_sasl.py [--kafka VERSION] [--test NAME]... KETAD"""

import re
import shlex
import subprocess
import sys

from gateway import expect, poll
from kafka import EARLIEST, KafkaCluster
from kafka_node import (BAD_CONFIG, Node, World, arguments, chosen, hashes, leader_of, run_tests)

USER, STRANGER = "keta", "stranger"
USERS = {USER: "keta-secret", STRANGER: "stranger-secret"}
CHECK_LIMIT_SEC = 90
TRIM_LIMIT_SEC = 60
LOGIN_LIMIT_SEC = 40


def login(world, user=USER, **more):
    """The keys of the configuration for a user; 'more' counts over them."""
    options = world.kafka.client_options(user)
    del options["bootstrap.servers"]
    options.update({key.replace("__", "."): value for key, value in more.items()})
    return {"kafkacache." + key: value for key, value in options.items()}


def make_node(world, prefix, name="n0", user=USER, **more):
    node = Node(world, prefix, name)
    node.settings.update(login(world, user, **more))
    node.settings["cluster.group.id"] = "cluster"
    return node


def check_config(node):
    """Exit status and what it prints."""
    done = subprocess.run(node.command("--check-config"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=CHECK_LIMIT_SEC, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout


def printed_commands(text):
    """Those for the least rights, without what only old brokers ask for."""
    return re.findall(r"^kafka-acls\.sh .+$", text.split("and with brokers before 2.8")[0], re.MULTILINE)


def remove(world, command):
    world.run(command.replace(" --add ", " --remove --force "))


def wait_for_login(node):
    """A login that was made or given rights a moment ago takes its time to be known everywhere."""
    return poll(lambda: check_config(node)[0] == 0, LOGIN_LIMIT_SEC, "--check-config content", pause_sec=0.5)


def the_printed_rights_are_enough(world):
    prefix, kafka = world.prefix(), world.kafka
    nodes = [make_node(world, prefix, "n%d" % number) for number in range(3)]
    status, text = check_config(nodes[0])
    commands = printed_commands(text)
    expect(len(commands) == 4, "not the four commands:\n%s", text)
    nodes[0].refuse(BAD_CONFIG, "Kafka is not set up as it must be")
    for command in commands:
        world.run(command)
    status, text = check_config(nodes[0])
    expect(status == 0 and "are missing; a node that starts makes them" in text, "with all rights:\n%s", text)
    for node in nodes:
        node.start()
    status, text = check_config(nodes[0])
    expect(status == 0 and "WRONG" not in text, "beside running nodes:\n%s", text)
    for node in nodes:
        node.put("by", node.name)
        expect(node.read("by") == node.name, "%s does not serve", node.name)
    leader = leader_of(nodes)
    lease = leader.must("lease/grant", {"TTL": 4000})["ID"]
    leader.put("leased", "1", lease=lease)
    for round_number in range(3):  # the log is cut below the last checkpoint but one
        for number in range(20):
            leader.put("key-%d" % (number % 5), "%d of %d" % (number, round_number))
        leader.checkpoint()

    def is_cut():
        """Votes about the hash come with a checkpoint, and what they permit with the next."""
        if kafka.end_offset(prefix + "commits", timestamp=EARLIEST) > 0:
            return True
        leader.put("more", "1")
        leader.checkpoint()
        return False
    poll(is_cut, TRIM_LIMIT_SEC, "a cut log", pause_sec=1)
    late = make_node(world, prefix, "late")
    late.start()
    late.expect_said("the database is built anew from Kafka")
    expect(late.dump() == leader.dump(), "the late node has other data")
    expect(len(set(hashes([*nodes, late]))) == 1, "the hashes differ")
    leader.stop()
    others = [node for node in [*nodes, late] if node is not leader]
    leader_of(others)
    others[0].put("after", "1")
    for node in others:
        for text in ("uthoriz", "denied"):
            expect(not node.find(text), "%s was refused something: %s", node.name, node.find(text))
        node.stop()


def each_missing_right_is_named(world):
    prefix = world.prefix()
    node = make_node(world, prefix)
    commands = printed_commands(check_config(node)[1])
    for command in commands:
        world.run(command)
    node.start()
    node.put("a", "1")
    node.stop()
    wait_for_login(node)
    found = {"--group": ["group", "roup authorization failed"],
             "--transactional-id": ["transactional id", "uthorization failed"],
             "--operation Delete": ["Delete on topic", "uthorization failed"]}
    for command in commands[1:]:
        texts = next(texts for option, texts in found.items() if option in command)
        remove(world, command)
        status, text = poll(lambda: [each for each in [check_config(node)] if each[0]], LOGIN_LIMIT_SEC,
                            "a refusal without " + command)[0]
        wrong = [line for line in text.splitlines() if line.startswith("WRONG")]
        expect(status == BAD_CONFIG and len(wrong) == 1 and all(each in wrong[0] for each in texts), "without %s:\n%s",
               command, text)
        expect(command in text.splitlines(), "the command that mends it is not there:\n%s", text)
        world.run(command)
    for operation in ("Read", "Write", "DescribeConfigs"):  # Describe is in the others
        one = re.sub(r"(--operation \w+ )+", "--operation %s " % operation, commands[0])
        remove(world, one)
        status, text = poll(lambda: [each for each in [check_config(node)] if each[0]], LOGIN_LIMIT_SEC,
                            "a refusal without " + one)[0]
        wrong = [line for line in text.splitlines() if line.startswith("WRONG")]
        expect(status == BAD_CONFIG and any(operation in line for line in wrong), "without %s:\n%s", operation, text)
        world.run(one)
    wait_for_login(node)
    node.start()
    expect(node.read("a") == "1", "the key is gone")


def a_start_without_rights_names_the_command(world):
    """The commands that its own log names bring it as far as the log; from there on --check-config has them."""
    prefix = world.prefix()
    node = make_node(world, prefix)
    ran = []
    while not gets_beyond_topics(node):
        node.expect_end(BAD_CONFIG, "Kafka is not set up as it must be", "uthorization failed")
        expect(not set(ran) & set(node.commands()), "a command did not help: %s", node.tail())
        ran += world.mend(node)
        expect(len(ran) < 10, "too many commands: %s", ran)
    expect(ran, "it came up without any right")
    node.expect_said("ketad --check-config tells which one, and the command that gives it", LOGIN_LIMIT_SEC)
    expect(node.get("/readyz")[0] == 503, "it is ready without the right to read")
    while True:
        status, text = check_config(node)
        if status == 0:
            break
        done = [world.run(command) for command in printed_commands(text)]
        expect(len(done) == 4, "not the four commands:\n%s", text)
        wait_for_login(node)
    node.wait_ready()
    node.put("a", "1")
    leader_of([node])


def gets_beyond_topics(node):
    """Starts it; false when it ends with a refusal."""
    node.launch()
    poll(lambda: not node.is_running() or node.find("topics are as they must be"), LOGIN_LIMIT_SEC,
         "a start or a refusal")
    return node.is_running()


def rights_that_are_missing_at_work_are_told(world):
    """Without the right to a group nobody leads, and without that to a transactional id there are no checkpoints."""
    prefix = world.prefix()
    node = make_node(world, prefix)
    commands = printed_commands(check_config(node)[1])
    group = next(command for command in commands if "--group" in command)
    transaction = next(command for command in commands if "--transactional-id" in command)
    for command in commands:
        if command not in (group, transaction):
            world.run(command)
    node.start()
    node.put("a", "1")
    node.expect_said("roup authorization failed", LOGIN_LIMIT_SEC)
    world.run(group)
    leader = poll(lambda: node.leads() or node.find("ransactional Id authorization failed"), LOGIN_LIMIT_SEC,
                  "an attempt to lead")
    expect(leader, "nobody leads")
    node.signal()
    node.expect_said("ransactional Id authorization failed", LOGIN_LIMIT_SEC)
    node.put("a", "2")
    world.run(transaction)
    node.checkpoint(60)


def a_wrong_password_is_told(world):
    prefix = world.prefix()
    node = make_node(world, prefix, sasl__password="wrong-secret")
    node.refuse(BAD_CONFIG, "the login was refused", limit_sec=LOGIN_LIMIT_SEC)
    status, text = check_config(node)
    expect(status != 0 and "login was refused" in text, "--check-config: %d\n%s", status, text)
    with open(node.log_path) as log:
        expect("wrong-secret" not in log.read() + text, "the password is shown")


def an_unknown_user_is_told(world):
    node = make_node(world, world.prefix(), sasl__username="nobody")
    node.refuse(BAD_CONFIG, "the login was refused", limit_sec=LOGIN_LIMIT_SEC)


def a_wrong_authority_is_told(world):
    """And so is one that is none; Kafka may come back with another certificate, so the start is tried for a while."""
    prefix = world.prefix()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", world.directory + "/wrong.key", "-out", world.directory + "/wrong.crt", "-days", "2", "-subj",
                    "/CN=another authority"], check=True, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    node = make_node(world, prefix, ssl__ca__location=world.directory + "/wrong.crt")
    node.settings.update({"kafkacache.init.timeout.ms": 8000, "kafkacache.timeout.ms": 8000})
    node.refuse(1, "ertificate", "Kafka cannot be reached", limit_sec=LOGIN_LIMIT_SEC)
    expect(any("verify" in str(line) and "no answer" in str(line) for line in node.lines()),
           "the reason is not told:\n%s", node.tail())
    status, text = check_config(node)
    expect(status != 0 and "ertificate" in text, "--check-config: %d\n%s", status, text)
    node.settings["kafkacache.ssl.ca.location"] = world.directory + "/none.crt"
    expect(node_fails_early(node), "a file that is not there: %s", node.tail())


def node_fails_early(node):
    node.launch()
    return node.end(LOGIN_LIMIT_SEC) != 0 and node.find("none.crt")


def plain_text_at_a_tls_port_is_told(world):
    node = make_node(world, world.prefix(), security__protocol="SASL_PLAINTEXT")
    node.settings.update({"kafkacache.init.timeout.ms": 8000, "kafkacache.timeout.ms": 8000})
    node.launch()
    expect(node.end(LOGIN_LIMIT_SEC) != 0, "it started")
    expect(node.find("SSL") or node.find("ssl"), "it does not say that TLS is asked for:\n%s", node.tail())


TESTS = [
    the_printed_rights_are_enough, each_missing_right_is_named, a_start_without_rights_names_the_command,
    rights_that_are_missing_at_work_are_told, a_wrong_password_is_told, an_unknown_user_is_told,
    a_wrong_authority_is_told,
    plain_text_at_a_tls_port_is_told,
]


def main():
    options = arguments(__doc__, TESTS).parse_args()
    with KafkaCluster(version=options.kafka, sasl=True, tls=True, users=USERS) as kafka, \
            World(options.ketad, kafka) as world:
        return run_tests(chosen(options, TESTS), world)


if __name__ == "__main__":
    sys.exit(main())
