#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the server says, and how it exits, when it cannot start; and what it
says when it can. The exit status decides whether systemd tries again: 78 is
for what only an edit of the configuration mends, 65 for a database that this
version cannot use.

    start.py KETAD

Ends with "N passed, N failed"; the exit status is 1 if any failed."""

import json
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile

KETAD = None
LOOPBACK = "http://127.0.0.1:0"


def start(data_dir, listeners=LOOPBACK, limit=None):
    def lower():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    return subprocess.Popen(
        [KETAD, "--data-dir", data_dir, "--listen-client-urls", listeners],
        stderr=subprocess.PIPE, text=True, preexec_fn=lower if limit else None)


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def refused(*args, **kwargs):
    """The exit status and the log of a server that does not start."""
    process = start(*args, **kwargs)
    try:
        log = process.communicate(timeout=20)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise AssertionError("the server started")
    return process.returncode, lines_of(log)


def expect_refusal(status, cause, path, *args, **kwargs):
    """'cause' is in a message or an error, on a line that names 'path'."""
    code, log = refused(*args, **kwargs)
    assert code == status, "exit status %d: %s" % (code, log)
    last = log[-1]
    assert last["message"] == "cannot start" and last["error"] and last["advice"], last
    assert "see the server's log" not in last["error"], last
    assert any(cause in line["message"] + line.get("error", "") and path in json.dumps(line)
               for line in log), "no line says %r of %s: %s" % (cause, path, log)


def served(*args, **kwargs):
    """The log of a server up to 'ready', and after a SIGTERM."""
    process = start(*args, **kwargs)
    log = []
    for text in process.stderr:
        log.append(json.loads(text))
        if log[-1]["message"] == "ready":
            process.send_signal(signal.SIGTERM)
    assert process.wait() == 0, log
    return log


def find(log, message):
    return [line for line in log if message in line["message"]]


def port_in_use(top):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = "http://127.0.0.1:%d" % taken.getsockname()[1]
        expect_refusal(1, "Address already in use", url, top + "/data", url)


def address_of_another_host(top):
    url = "http://192.0.2.1:2379"
    expect_refusal(1, "Cannot assign requested address", url, top + "/data", url)


def host_name_without_address(top):
    code, log = refused(top + "/data", "http://nobody.invalid:2379")
    assert code == 1, log
    assert "nobody.invalid" in log[-2]["url"], log
    assert "assign" not in log[-2]["error"], log


def data_dir_without_parent(top):
    expect_refusal(1, "its parent must exist", top + "/no/data", top + "/no/data")


def data_dir_is_a_file(top):
    open(top + "/data", "w").close()
    expect_refusal(1, "Not a directory", top + "/data", top + "/data")


def data_dir_in_use(top):
    process = start(top + "/data")
    for text in process.stderr:
        if '"ready"' in text:
            break
    try:
        expect_refusal(1, "in use by another server", top + "/data", top + "/data")
    finally:
        process.terminate()
        process.communicate()


def data_dir_not_writable(top):
    if os.geteuid() == 0:
        expect_refusal(1, "cannot write in the data directory", "/proc/self", "/proc/self")
        return
    os.mkdir(top + "/data", 0o500)
    expect_refusal(1, "Permission denied", top + "/data", top + "/data")


def database_is_a_directory(top):
    os.makedirs(top + "/data/keta.db")
    expect_refusal(1, "Is a directory", top + "/data/keta.db", top + "/data")


def run_sql(path, sql):
    db = sqlite3.connect(path)
    db.execute(sql)
    db.commit()
    db.close()


def database_of_others(top):
    os.mkdir(top + "/data")
    run_sql(top + "/data/keta.db", "CREATE TABLE t (a)")
    expect_refusal(65, "not made by Keta", top + "/data/keta.db", top + "/data")


def database_of_a_newer_version(top):
    served(top + "/data")
    run_sql(top + "/data/keta.db", "PRAGMA user_version = 999")
    expect_refusal(65, "newer version", top + "/data/keta.db", top + "/data")


def database_is_garbage(top):
    os.mkdir(top + "/data")
    with open(top + "/data/keta.db", "wb") as file:
        file.write(b"x" * 8192)
    expect_refusal(65, "not a database", top + "/data/keta.db", top + "/data")


def database_is_damaged(top):
    served(top + "/data")
    with open(top + "/data/keta.db", "r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3996)
    expect_refusal(1, "malformed", top + "/data/keta.db", top + "/data")


def too_few_files(top):
    code, log = refused(top + "/data", limit=24)
    assert code == 1 and "ulimit" in log[-1]["advice"], log


def bad_configuration(top):
    process = start(top + "/data", "http://127.0.0.1")
    text = process.communicate(timeout=20)[1]
    assert process.returncode == 78, process.returncode
    assert "the port is missing" in text, text


def what_is_served_is_said(top):
    os.chdir(top)
    log = served("data")
    messages = [line["message"] for line in log]
    assert messages.index("listening") < messages.index("ready"), messages
    url = find(log, "listening")[0]["url"]
    assert url.startswith("http://127.0.0.1:") and not url.endswith(":0"), url
    assert find(log, "ready")[0]["data_dir"] == os.path.realpath(top + "/data"), log
    assert not find(log, "no TLS") and not find(log, "data of etcd"), log


def a_network_without_tls_is_a_warning(top):
    log = served(top + "/data", "http://0.0.0.0:0")
    assert find(log, "no TLS")[0]["level"] == "warn", log


def few_files_are_a_warning(top):
    log = served(top + "/data", limit=1024)
    assert find(log, "connection.limit")[0]["connections"] < 1024, log


def data_of_etcd_is_a_warning(top):
    os.makedirs(top + "/data/member")
    assert find(served(top + "/data"), "data of etcd")[0]["level"] == "warn"


TESTS = [
    port_in_use, address_of_another_host, host_name_without_address, data_dir_without_parent,
    data_dir_is_a_file, data_dir_in_use, data_dir_not_writable, database_is_a_directory,
    database_of_others, database_of_a_newer_version, database_is_garbage, database_is_damaged,
    too_few_files, bad_configuration, what_is_served_is_said, a_network_without_tls_is_a_warning,
    few_files_are_a_warning, data_of_etcd_is_a_warning,
]


def main():
    global KETAD
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    KETAD = os.path.abspath(sys.argv[1])
    failed = 0
    for test in TESTS:
        with tempfile.TemporaryDirectory() as top:
            try:
                test(top)
            except AssertionError as error:
                failed += 1
                print("FAILED: %s: %s" % (test.__name__, error))
            os.chdir("/")
    print("%d passed, %d failed" % (len(TESTS) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
