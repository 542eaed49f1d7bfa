#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The client library etcd3gw (OpenStack's; Debian: python3-etcd3gw), with all
that it can do, against a server.

    etcd3gw_client.py [--etcd | --kafka] SERVER

It is of its time, and uses names of methods that have newer ones; it takes each
chunk of a streamed answer for one message. Run by the Python that Debian's
packages are for."""

import base64
import contextlib
import sys
import threading
import time
import uuid

from etcd3gw import exceptions
from etcd3gw.client import Etcd3Client
from gateway import Failure, Server, arguments, expect, poll, run_tests

WATCH_LIMIT_SEC = 20
QUICK_PUTS = 500


def connect(of):
    """A client of the server, or of the server that another is a client of."""
    return Etcd3Client(host="127.0.0.1", port=of.port, api_path="/v3/")


def fresh_key():
    return "/%s/" % uuid.uuid4()


def unb64(text):
    return base64.b64decode(text)


@contextlib.contextmanager
def watching(start, *args, **kwargs):
    """Gives a function that returns the watch's next event, in limited time."""
    events, cancel = start(*args, **kwargs)
    found, arrived = [], threading.Condition()

    def collect():
        for event in events:
            with arrived:
                found.append(event)
                arrived.notify()

    def take():
        with arrived:
            expect(arrived.wait_for(lambda: found, WATCH_LIMIT_SEC), "no event")
            return found.pop(0)

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    try:
        yield take
    finally:
        cancel()
        thread.join(WATCH_LIMIT_SEC)
        expect(not thread.is_alive(), "the watch did not end")
        expect(not found, "more events than expected: %s", found)


@contextlib.contextmanager
def meanwhile(action):
    """Runs 'action' again and again, beside something that waits for it."""
    done = threading.Event()

    def repeat():
        while not done.wait(0.05):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def refused(kind, call, *args):
    try:
        call(*args)
    except kind as error:
        return error
    raise Failure("%s was not refused" % call)


# ---------------------------------------------------------------- the server

def status_tells_of_the_server(client):
    status = client.status()
    expect(status["version"] and "cluster_id" in status["header"], "status: %s", status)
    expect(int(status["dbSize"]) > 0, "status: %s", status)


def members_have_addresses(client):
    members = client.members()
    expect(len(members) == 1 and members[0]["clientURLs"], "members: %s", members)
    expect(int(members[0]["ID"]) == int(client.status()["header"]["member_id"]), "members: %s", members)


# ---------------------------------------------------------------- keys and values

def values_are_put_and_read(client):
    for value, stored in (("text", b"text"), (2001, b"2001"), (b"\x00\xff bytes", b"\x00\xff bytes"), ("", b"")):
        key = fresh_key()
        expect(client.put(key, value) is True, "put")
        expect(client.get(key) == [stored], "%r became %s", value, client.get(key))


def a_deleted_key_is_gone(client):
    key = fresh_key()
    client.put(key, "value")
    expect(client.delete(key) is True, "nothing deleted")
    expect(client.get(key) == [], "still there")
    expect(client.delete(key) is False, "deleted twice")


def metadata_comes_with_the_value(client):
    key = fresh_key()
    for number in range(3):
        client.put(key, number)
    (value, meta), = client.get(key, metadata=True)
    expect(value == b"2" and meta["key"] == key.encode() and meta["version"] == "3", "%s %s", value, meta)
    expect(int(meta["mod_revision"]) == int(meta["create_revision"]) + 2, "%s", meta)


def a_prefix_is_listed_and_deleted(client):
    prefix = fresh_key()
    for number in range(20):
        client.put("%s%d" % (prefix, number), "value %d" % number)
    client.put(prefix[:-1], "beside it")
    found = client.get_prefix(prefix)
    expect(len(found) == 20 and all(meta["key"].startswith(prefix.encode()) for _, meta in found), "%s", found)
    expect(client.delete_prefix(prefix) is True, "nothing deleted")
    expect(client.get_prefix(prefix) == [], "still there")
    expect(client.get(prefix[:-1]) == [b"beside it"], "too much deleted")


def a_listing_is_sorted_as_asked(client):
    prefix = fresh_key()
    for key, value in zip("aebdc", "qwert"):
        client.put(prefix + key, value)
    client.put(prefix + "b", "b")  # now the newest, and version 2
    wanted = {"key": "abcde", "create": "aebdc", "mod": "aedcb", "value": "badce"}
    for target, order in wanted.items():
        for name, keys in (("ascend", order), ("descend", order[::-1])):
            found = client.get_prefix(prefix, sort_order=name, sort_target=target)
            got = "".join(meta["key"].decode()[-1] for _, meta in found)
            expect(got == keys, "sorted by %s, %s: %s, not %s", target, name, got, keys)
    found = client.get_prefix(prefix, sort_order="descend", sort_target="version")
    expect(found[0][1]["key"].endswith(b"b"), "sorted by version: %s", found)


def everything_is_listed(client):
    key = fresh_key()
    client.put("b" + key, "value")  # it asks for all above "AA=="
    expect((b"b" + key.encode()) in [meta["key"] for _, meta in client.get_all()], "not in the list")


def a_key_is_created_once(client):
    key = fresh_key()
    expect(client.create(key, "first") is True, "not created")
    expect(client.create(key, "second") is False, "created again")
    expect(client.get(key) == [b"first"], "overwritten")


def a_value_is_replaced_if_it_is_the_expected_one(client):
    key = fresh_key()
    client.put(key, "one")
    expect(client.replace(key, "one", "two") is True, "not replaced")
    expect(client.replace(key, "one", "three") is False, "replaced")
    expect(client.get(key) == [b"two"], "value %s", client.get(key))


def a_transaction_takes_one_branch(client):
    key = fresh_key()
    coded = base64.b64encode(key.encode()).decode()
    txn = {"compare": [{"key": coded, "result": "GREATER", "target": "VERSION", "version": 0}],
           "success": [{"request_delete_range": {"key": coded, "prev_kv": True}}],
           "failure": [{"request_put": {"key": coded, "value": coded}}, {"request_range": {"key": coded}}]}
    answer = client.transaction(txn)
    expect("succeeded" not in answer and len(answer["responses"]) == 2, "%s", answer)
    expect(answer["responses"][1]["response_range"]["kvs"][0]["value"] == coded, "%s", answer)
    answer = client.transaction(txn)
    expect(answer["succeeded"] and answer["responses"][0]["response_delete_range"]["deleted"] == "1", "%s", answer)


def errors_are_told(client):
    error = refused(exceptions.Etcd3Exception, client.transaction, {"success": [{"request_range": {"key": "***"}}]})
    expect("code" in error.detail_text, "%s", error.detail_text)
    error = refused(exceptions.Etcd3Exception, client.put, "", "value")
    expect("key is not provided" in error.detail_text, "%s", error.detail_text)


# ---------------------------------------------------------------- leases

def a_lease_has_its_time(client):
    lease = client.lease(ttl=60)
    expect(58 <= lease.ttl() <= 60, "%d seconds left", lease.ttl())
    expect(lease.keys() == [], "it has keys")
    expect(lease.refresh() == 60, "not renewed")
    expect(lease.revoke() is True, "not revoked")


def a_revoked_lease_takes_its_keys_along(client):
    lease, prefix = client.lease(ttl=60), fresh_key()
    client.put(prefix + "a", "1", lease)
    expect(client.create(prefix + "b", "2", lease) is True, "not created")
    client.put(prefix + "c", "3")
    expect(sorted(lease.keys()) == [(prefix + name).encode() for name in "ab"], "keys: %s", lease.keys())
    lease.revoke()
    expect([meta["key"][-1:] for _, meta in client.get_prefix(prefix)] == [b"c"], "%s", client.get_prefix(prefix))
    expect(lease.ttl() == -1 and lease.refresh() == -1, "the lease lives on")
    refused(exceptions.Etcd3Exception, lease.revoke)
    refused(exceptions.Etcd3Exception, client.put, prefix, "value", lease)


def a_lease_expires_unless_it_is_refreshed(client):
    kept, left, prefix = client.lease(ttl=2), client.lease(ttl=2), fresh_key()
    client.put(prefix + "kept", "1", kept)
    client.put(prefix + "left", "2", left)
    started = time.monotonic()

    def is_gone():
        expect(kept.refresh() == 2, "the lease that is refreshed is lost")
        return client.get(prefix + "left") == []

    poll(is_gone, 20, "the end of the lease", 0.2)
    expect(time.monotonic() - started > 1.5, "it came too early")
    expect(client.get(prefix + "kept") == [b"1"], "the other is gone too")
    expect(left.refresh() == -1, "refreshed after its end")
    kept.revoke()


# ---------------------------------------------------------------- locks

def a_lock_has_one_holder(client):
    name = str(uuid.uuid4())
    first, second = client.lock(id=name, ttl=60), client.lock(id=name, ttl=60)
    expect(first.acquire() is True and second.acquire() is False, "not one holder")
    expect(first.is_acquired() and not second.is_acquired(), "the wrong holder")
    expect(first.refresh() == 60, "not refreshed")
    expect(second.release() is False and first.release() is True, "released by the wrong one")
    expect(second.acquire() is True and not first.is_acquired(), "not taken after the release")
    second.release()


def a_lock_is_held_inside_a_with_statement(client):
    with client.lock(ttl=60) as lock:
        expect(lock.is_acquired(), "not held")
        expect(lock.acquire() is False, "acquired twice")
    # The second lease it took is no longer the key's.
    with client.lock(ttl=60) as lock:
        expect(lock.refresh() == 60, "not refreshed")
    expect(not lock.is_acquired(), "not released")


def a_lock_ends_with_its_lease(client):
    name = str(uuid.uuid4())
    expect(client.lock(id=name, ttl=1).acquire() is True, "not acquired")
    poll(client.lock(id=name, ttl=60).acquire, 20, "the end of the lock", 0.1)


# ---------------------------------------------------------------- watches

def a_watch_tells_of_changes_in_order(client):
    key = fresh_key()
    with watching(client.watch, key) as take:
        for number in range(5):
            client.put(key, number)
        client.put(key + "beside", "value")
        client.delete(key)
        for number in range(5):
            kv = take()["kv"]
            expect((kv["key"], kv["value"], kv["version"]) == (key.encode(), b"%d" % number, str(number + 1)),
                   "%s, not %d", kv, number)
        event = take()
        expect(event["type"] == "DELETE" and event["kv"]["key"] == key.encode(), "%s", event)


def a_prefix_watch_tells_of_all_its_keys(client):
    prefix = fresh_key()
    with watching(client.watch_prefix, prefix) as take:
        for name in "abc":
            client.put(prefix + name, name)
        client.delete_prefix(prefix)
        for name in "abc":
            expect(take()["kv"]["key"] == (prefix + name).encode(), "not %s", name)
        for name in "abc":
            event = take()
            expect((event["type"], event["kv"]["key"]) == ("DELETE", (prefix + name).encode()), "%s", event)


def a_watch_takes_its_options(client):
    key = fresh_key()
    client.put(key, "one")
    (_, meta), = client.get(key, metadata=True)
    client.put(key, "two")
    client.delete(key)
    start = int(meta["mod_revision"])
    with watching(client.watch, key, start_revision=start, filters=["NODELETE"], prev_kv=True) as take:
        first, second = take(), take()
        expect(first["kv"]["value"] == b"one" and "prev_kv" not in first, "%s", first)
        expect(second["kv"]["value"] == b"two" and unb64(second["prev_kv"]["value"]) == b"one", "%s", second)
    with watching(client.watch, key, start_revision=start, filters=["NOPUT"], progress_notify=True) as take:
        event = take()
        expect(event["type"] == "DELETE" and "prev_kv" not in event, "%s", event)


def each_chunk_is_one_message_however_quick_they_come(client):
    """The library takes it to be so, and stops to listen at the first that is not.
    (etcd has large messages in several chunks: these are small.)"""
    prefix = fresh_key()
    with watching(client.watch_prefix, prefix) as take:
        def put(part):
            own = connect(client)  # a session is not for several threads
            for number in range(part, QUICK_PUTS, 5):
                own.put("%s%d" % (prefix, number), "x" * (number % 7 * 100))

        threads = [threading.Thread(target=put, args=(part,)) for part in range(5)]
        for thread in threads:
            thread.start()
        seen = {take()["kv"]["key"] for _ in range(QUICK_PUTS)}
        for thread in threads:
            thread.join()
        expect(len(seen) == QUICK_PUTS, "%d keys of %d", len(seen), QUICK_PUTS)


def watch_once_returns_the_first_event(client):
    key = fresh_key()
    with meanwhile(lambda: connect(client).put(key, "value")):
        expect(client.watch_once(key, timeout=WATCH_LIMIT_SEC)["kv"]["value"] == b"value", "not the event")
    prefix = fresh_key()
    with meanwhile(lambda: connect(client).put(prefix + "a", "value")):
        event = client.watch_prefix_once(prefix, timeout=WATCH_LIMIT_SEC)
        expect(event["kv"]["key"] == (prefix + "a").encode(), "%s", event)


def watch_once_times_out(client):
    for once in (client.watch_once, client.watch_prefix_once):
        started = time.monotonic()
        refused(exceptions.WatchTimedOut, once, fresh_key(), 0.3)
        expect(0.2 < time.monotonic() - started < 10, "after %g s", time.monotonic() - started)
    expect(client.put(fresh_key(), "value"), "the client is of no use afterwards")


TESTS = [
    status_tells_of_the_server, members_have_addresses, values_are_put_and_read, a_deleted_key_is_gone,
    metadata_comes_with_the_value, a_prefix_is_listed_and_deleted, a_listing_is_sorted_as_asked,
    everything_is_listed, a_key_is_created_once, a_value_is_replaced_if_it_is_the_expected_one,
    a_transaction_takes_one_branch, errors_are_told, a_lease_has_its_time, a_revoked_lease_takes_its_keys_along,
    a_lease_expires_unless_it_is_refreshed, a_lock_has_one_holder, a_lock_is_held_inside_a_with_statement,
    a_lock_ends_with_its_lease, a_watch_tells_of_changes_in_order, a_prefix_watch_tells_of_all_its_keys,
    a_watch_takes_its_options, each_chunk_is_one_message_however_quick_they_come,
    watch_once_returns_the_first_event, watch_once_times_out,
]


def main():
    options = arguments(__doc__, seeded=False).parse_args()
    server = Server(options, name="keta-etcd3gw")
    with server:
        return run_tests(TESTS, connect(server), server)


if __name__ == "__main__":
    sys.exit(main())
