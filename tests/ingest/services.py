"""Runs the recipes in contrib/ingest that take a daemon: rsyslog from a host to a collector, and the
journal.

Contract: to be run as root in namespaces of its own for mounts, network, processes, host name and IPC:
the daemons are private ones, on file systems that go with them. The arguments are files of lines. Prints
`ok NAME`, `FAIL NAME: why` or `skipped: why`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONTRIB = Path(__file__).resolve().parents[2] / "contrib" / "ingest"
LOG = Path("/var/log/socket-snoop/socket_monitor.log")
# What is waited for comes within a second; a busy machine may take longer.
PATIENCE = 40


def sh(*args, **more):
    return subprocess.run(args, check=True, timeout=PATIENCE, **more)


def eventually(what, is_so):
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what()}"
        time.sleep(0.02)


def listens(port):
    tables = [Path(f"/proc/self/net/{name}").read_text(encoding="utf-8") for name in ("tcp", "tcp6")]
    return any(f":{port:04X} " in line and " 0A " in line for table in tables for line in table.splitlines())


class Daemon:
    """Runs until the end of the block. What it said is in a file."""

    def __init__(self, *args):
        self.said = tempfile.TemporaryFile(mode="w+")
        self.child = subprocess.Popen(args, stdout=self.said, stderr=self.said)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def words(self):
        self.said.seek(0)
        return self.said.read()


def rsyslogd(name):
    """With the recipe of that name, beside what Debian's rsyslog.conf has in front of it."""
    spool = Path("/var/spool") / name
    spool.mkdir(exist_ok=True)
    main = Path("/run") / f"{name}.conf"
    main.write_text(f'$WorkDirectory {spool}\n$IncludeConfig {CONTRIB / name}.conf\n', encoding="utf-8")
    sh("rsyslogd", "-N1", "-f", str(main), stderr=subprocess.DEVNULL)
    return Daemon("rsyslogd", "-n", "-f", str(main), "-i", f"/run/{name}.pid")


def rsyslog_recipes(lines):
    """Lines come whole and once, also those that were written while the collector was away, and after a
    rotation; what waited on the disk and what is read meanwhile may come in another order."""
    first, second = lines
    there = Path("/var/log/socket-snoop/hosts/host-a.jsonl")
    come = lambda: there.read_text(encoding="utf-8") if there.exists() else ""
    all_of = lambda sent: sorted(come().splitlines(True)) == sorted(sent.splitlines(True))
    LOG.parent.mkdir()
    LOG.write_text(first, encoding="utf-8")
    # Nobody is there to send to: the lines stay on the disk.
    with rsyslogd("rsyslog-host") as host:
        state = lambda: list(Path("/var/spool/rsyslog-host").glob("imfile-state*"))
        eventually(host.words, state)
    with rsyslogd("rsyslog-collector") as collector:
        # Else the host's first try fails, and the next comes half a minute later.
        eventually(collector.words, lambda: listens(6514))
        with rsyslogd("rsyslog-host") as host:
            words = lambda: f"{host.words()}{collector.words()}{come().count(chr(10))} lines, the last of them {come()[-200:]}"
            eventually(words, lambda: all_of(first))
            LOG.rename(f"{LOG}.1")
            LOG.write_text(second, encoding="utf-8")
            eventually(words, lambda: all_of(first + second))
    # As the files of the collector go into DuckDB and ClickHouse.
    assert [file.name for file in there.parent.iterdir()] == ["host-a.jsonl"]


def journal(*args):
    """The entries that match."""
    sh("journalctl", "--sync")
    done = sh("journalctl", "-q", "--output", "json", "--all", *args, stdout=subprocess.PIPE)
    return [json.loads(line) for line in done.stdout.splitlines()]


def as_text(value):
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def journald_recipes(lines):
    """A line is the MESSAGE as it was written, and by journald.py each key is a field beside it."""
    texts = "".join(lines)
    wanted = texts.splitlines()
    Path("/run/systemd/journal").mkdir(parents=True)
    Path("/run/log/journal").mkdir(parents=True)
    with Daemon("/lib/systemd/systemd-journald") as daemon:
        eventually(daemon.words, Path("/run/systemd/journal/stdout").exists)
        # As a service's standard output comes there.
        sh("systemd-cat", "--identifier=as-a-unit", "cat", input=texts, text=True)
        found = [entry["MESSAGE"] for entry in journal("--identifier=as-a-unit")]
        assert found == wanted, f"{len(found)} of {len(wanted)}"
        sh(sys.executable, str(CONTRIB / "journald.py"), input=texts, text=True)
        found = journal("--identifier=socket-snoop")
        assert len(found) == len(wanted), f"{len(found)} of {len(wanted)}"
        for entry, line in zip(found, wanted):
            assert entry["MESSAGE"] == line, entry
            for key, value in json.loads(line).items():
                field = key.upper().replace(".", "_")
                assert entry.get(field) == as_text(value), f"{field} of {entry}"
        # And the journal finds them by it.
        records = [line for line in map(json.loads, wanted) if line["event.name"] == "connection"]
        cause = records[0]["connection.cause"]
        found = journal("EVENT_NAME=connection", f"CONNECTION_CAUSE={cause}")
        assert len(found) == sum(record["connection.cause"] == cause for record in records), found


NEEDS = {
    rsyslog_recipes: ("rsyslogd", "rsyslog"),
    journald_recipes: ("/lib/systemd/systemd-journald", "systemd"),
}


def main(*files):
    texts = [Path(file).read_text(encoding="utf-8") for file in files]
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    hosts = Path("/etc/hosts").read_text(encoding="utf-8")
    sh("mount", "--make-rprivate", "/")
    for place in ("/run", "/var/spool", "/var/log"):
        sh("mount", "-t", "tmpfs", "tmpfs", place)
    Path("/run/hosts").write_text(f"{hosts}\n127.0.0.1 collector.example\n", encoding="utf-8")
    sh("mount", "--bind", "/run/hosts", "/etc/hosts")
    sh("hostname", "host-a")
    sh("ip", "link", "set", "lo", "up")
    for check, (tool, package) in NEEDS.items():
        if shutil.which(tool) is None:
            print(f"skipped: {tool} (package {package}) is missing: run 'scripts/setup'")
            continue
        try:
            check(texts)
        except Exception as why:  # pylint: disable=broad-except
            print(f"FAIL {check.__name__}: {type(why).__name__}: {why}")
        else:
            print(f"ok {check.__name__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
