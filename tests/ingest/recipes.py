"""Runs the recipes in contrib/ingest that need no daemon: the tables and questions in DuckDB and
ClickHouse, the mapping to the Elastic Common Schema, the requests of OTLP.

Contract: each recipe is the very file that is shipped. What its questions answer is held against what
is reckoned here from the lines.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from datetime import datetime, timezone
from pathlib import Path

import chdb.session
import duckdb
import vrl_python
import yaml
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from read import SETTINGS, nest

CONTRIB = Path(__file__).resolve().parents[2] / "contrib" / "ingest"


class Fleet:
    """The lines as those of hosts: of each file one."""

    def __init__(self, lines, files):
        self.schema_keys = set(lines.keys) | {"host.name"}
        self.all = lines.all
        self.folder = tempfile.TemporaryDirectory()
        hosts = Path(self.folder.name) / "hosts"
        hosts.mkdir()
        self.hosts = {}
        for number, file in enumerate(files):
            text = Path(file).read_text(encoding="utf-8")
            # As it is while somebody writes there.
            cut = text.splitlines()[-1][:40]
            (hosts / f"host-{number}.jsonl").write_text(text + cut, encoding="utf-8")
            self.hosts[f"host-{number}"] = [json.loads(line) for line in text.splitlines()]

    def records(self):
        for host, lines in self.hosts.items():
            yield from ((host, line) for line in lines if line["event.name"] == "connection")


def grouped(rows, sums):
    """Rows (key, values) with the values of each key added up."""
    totals = defaultdict(lambda: [0] * sums)
    for key, values in rows:
        totals[key] = [have + (more or 0) for have, more in zip(totals[key], values)]
    return Counter((*key, *values) for key, values in totals.items())


def who_talked_to(fleet, address):
    sockets = defaultdict(list)
    for host, lines in fleet.hosts.items():
        for line in lines:
            if line.get("network.peer.address") == address and "socket.id" in line:
                sockets[host, line["socket.id"]].append(line)
    rows = []
    for (host, _), lines in sockets.items():
        lines.sort(key=lambda line: line["time"])
        last = {key: item for line in lines for key, item in line.items()}
        states = {(line.get("tcp.state.old"), line.get("tcp.state.new")) for line in lines}
        way = last.get("connection.direction")
        if way is None and any(new == "SYN_SENT" for _, new in states):
            way = "outgoing"
        elif way is None:
            way = "incoming" if any(old == "SYN_RECV" for old, _ in states) else "unknown"
        end = {"outgoing": "network.peer.port", "incoming": "network.local.port"}.get(way)
        rows.append(((host, last.get("process.name"), way, last.get(end)), (1,)))
    return grouped(rows, 1)


def refused(fleet):
    keys = ("process.name", "network.peer.address", "network.peer.port")
    found = ((h, r) for h, r in fleet.records() if r["connection.cause"] == "refused")
    return grouped((((h, *map(r.get, keys)), (1,)) for h, r in found), 1)


def retransmissions_by_peer(fleet):
    keys = ("tcp.retransmits.total", "tcp.segments.sent")
    found = (r for _, r in fleet.records() if "tcp.retransmits.total" in r)
    sums = grouped((((r["network.peer.address"],), (1, *map(r.get, keys))) for r in found), 3)
    return Counter(
        (peer, count, again, round(1000 * again / sent, 1) if sent else None)
        for peer, count, again, sent in sums
        if again
    )


def slowest_handshakes(fleet):
    keys = ("process.name", "network.peer.address", "network.peer.port", "tcp.retransmits.syn")
    found = [(r["tcp.connect_ns"] / 1e6, h, r) for h, r in fleet.records() if "tcp.connect_ns" in r]
    found.sort(key=lambda row: (-row[0], row[1], row[2]["time"]))
    rows = ((h, round(ms, 6), *map(r.get, keys)) for ms, h, r in found[:20])
    return Counter(rows)


def bytes_by_process(fleet):
    keys = ("tcp.bytes.sent", "tcp.bytes.received")
    found = ((h, r) for h, r in fleet.records() if keys[0] in r or keys[1] in r)
    return grouped((((h, r.get("process.name")), (1, *map(r.get, keys))) for h, r in found), 3)


def lost(fleet):
    found = ((h, n) for h, lines in fleet.hosts.items() for n in lines if n["event.name"] == "lost")
    return grouped((((h, n["lost.reason"]), (n["lost.count"],)) for h, n in found), 1)


def questions(fleet):
    """Each question, the columns of its answer that are held against what is right, and that."""
    peers = sorted({line["network.peer.address"] for line in fleet.all if "network.peer.address" in line})
    for peer in peers:
        columns = "host, process, direction, port, connections"
        yield ("who_talked_to", peer), columns, who_talked_to(fleet, peer)
    yield ("refused",), "host, process, peer_address, peer_port, connections", refused(fleet)
    columns = "peer_address, connections, retransmits, per_thousand"
    yield ("retransmissions_by_peer",), columns, retransmissions_by_peer(fleet)
    columns = "host, round(connect_ms, 6), process, peer_address, peer_port, retransmits_syn"
    yield ("slowest_handshakes",), columns, slowest_handshakes(fleet)
    columns = "host, process, connections, coalesce(sent, 0), coalesce(received, 0)"
    yield ("bytes_by_process",), columns, bytes_by_process(fleet)
    yield ("lost",), "host, reason, lost", lost(fleet)


def in_folder(fleet, todo):
    before = os.getcwd()
    os.chdir(fleet.folder.name)
    try:
        return todo()
    finally:
        os.chdir(before)


def columns_name_keys(text, fleet, found):
    """What a recipe takes from a line must be a key of the schema: one that was renamed is noticed."""
    keys = set(found)
    assert len(keys) > 15, keys
    assert keys <= fleet.schema_keys, keys - fleet.schema_keys


def duckdb_recipe(fleet):
    text = (CONTRIB / "duckdb.sql").read_text(encoding="utf-8")
    code = re.sub(r"--.*", "", text)
    columns_name_keys(text, fleet, re.findall(r'"([a-z_.]+)": "[A-Z_]+"', code))
    with duckdb.connect() as db:
        in_folder(fleet, lambda: db.execute(text))
        count = db.sql("SELECT count(*) FROM lines").fetchall()
        assert count == [(len(fleet.all) + len(fleet.hosts),)], count
        for (name, *given), columns, right in questions(fleet):
            asked = f"{name}('{given[0]}')" if given else name
            if name == "lost":
                right = right + Counter((host, "not_json", 1) for host in fleet.hosts)
            rows = db.sql(f"SELECT {columns} FROM {asked}").fetchall()
            assert Counter(rows) == right, f"{asked}: {rows} is not {right}"


def clickhouse_recipe(fleet):
    text = (CONTRIB / "clickhouse.sql").read_text(encoding="utf-8")
    code = re.sub(r"--.*", "", text)
    columns_name_keys(text, fleet, re.findall(r"\bline\.([a-z_.]+?)\.:", code))
    # The way in that the recipe tells for files.
    (insert,) = re.findall(r"--     (INSERT INTO [^;\"]*WHERE [^;\"]*);", text)
    with chdb.session.Session() as session:
        for statement in code.split(";"):
            if statement.strip():
                session.query(statement)
        in_folder(fleet, lambda: session.query(insert.replace("--", " ")))
        answer = session.query("SELECT count() FROM socket_snoop", "CSV")
        assert str(answer).strip() == str(len(fleet.all)), answer
        for (name, *given), columns, right in questions(fleet):
            asked = f"{name}(address = '{given[0]}')" if given else name
            answer = session.query(f"SELECT {columns} FROM {asked}{SETTINGS}", "JSONCompactEachRow")
            rows = [tuple(json.loads(row)) for row in str(answer).splitlines()]
            assert Counter(rows) == right, f"{asked}: {rows} is not {right}"


def leaves(value, path=()):
    """The scalars of an object, by where they are."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, *key.split(".")))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))
    else:
        yield ".".join(map(str, path)), value


# Where ECS has a field for a key, by the direction where that matters.
MOVED = {
    "time": "@timestamp",
    "event.name": "event.action",
    "host.name": "host.name",
    "process.pid": "process.pid",
    "process.name": "process.name",
    "process.thread.id": "process.thread.id",
    "thread.name": "process.thread.name",
    "process.parent_pid": "process.parent.pid",
    "user.id": "user.id",
    "container.id": "container.id",
    "error.type": "error.type",
    "network.type": "network.type",
    "network.transport": "network.transport",
    "connection.start": "event.start",
    "connection.duration_ns": "event.duration",
    "connection.cause": "event.reason",
}
OUTGOING = {
    "network.local.address": "source.ip",
    "network.local.port": "source.port",
    "tcp.bytes.sent": "source.bytes",
    "tcp.segments.sent": "source.packets",
    "network.peer.address": "destination.ip",
    "network.peer.port": "destination.port",
    "tcp.bytes.received": "destination.bytes",
    "tcp.segments.received": "destination.packets",
}
OTHER = {"source": "destination", "destination": "source"}
INCOMING = {key: re.sub(r"^\w+", lambda m: OTHER[m[0]], to) for key, to in OUTGOING.items()}
# What is said of a line beyond its keys.
ADDED = re.compile(
    r"ecs\.version|event\.(kind|category\.\d|type\.\d|outcome|module|dataset|end)|network\.direction|related\.ip\.\d"
)


def ecs_recipe(fleet):
    """Each value of a line is in its document once, where ECS has it or under socket_snoop."""
    program = (CONTRIB / "ecs.vrl").read_text(encoding="utf-8")
    wrong = vrl_python.VRLRuntime.check_syntax(program)
    assert wrong is None, wrong.formatted_message
    runtime = vrl_python.VRLRuntime(None)
    # The program in front of it there.
    config = yaml.safe_load((CONTRIB / "not-run" / "vector.yaml").read_text(encoding="utf-8"))
    parsing = config["transforms"]["lines"]["source"]
    ways = defaultdict(int)
    for line in fleet.all:
        message = {"message": json.dumps(line), "host": "host-0"}
        line = {**line, "host.name": "host-0"}
        assert runtime.execute(parsing, message).processed_event == line
        document = runtime.execute(program, line).processed_event
        found = dict(leaves(document))
        way = document.get("network", {}).get("direction")
        ways[line["event.name"], way] += 1
        moved = {**MOVED, **{"egress": OUTGOING, "ingress": INCOMING}.get(way, {})}
        if way:
            moved["connection.direction"] = "network.direction"
        for path, value in leaves(line):
            place = moved.get(path, f"socket_snoop.{path}")
            got = found.pop(place, None)
            if path == "user.id":
                value = str(value)
            elif path == "connection.direction" and way:
                value = {"outgoing": "egress", "incoming": "ingress"}[value]
            assert got == value, f"{path}: {got} at {place} is not {value}"
        left = [path for path in found if not ADDED.fullmatch(path)]
        assert not left, left
        assert document["event"]["dataset"] == f"socket_snoop.{line['event.name']}"
        if line["event.name"] == "connection":
            cause = line["connection.cause"]
            fine = "success" if cause.startswith("closed_by_") else "failure"
            assert document["event"]["outcome"] == ("unknown" if cause == "unknown" else fine), document
            assert ("denied" in document["event"]["type"]) == (cause == "refused"), document
    for wanted in [("connection", "egress"), ("connection", "ingress"), ("connection", None), ("tcp_state", "egress")]:
        assert ways[wanted], f"no line for {wanted}"


def plain(value):
    """A value out of OTLP's AnyValue."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: plain(item.value) for item in value.kvlist_value.values}
    return getattr(value, kind)


def otlp_recipe(fleet):
    """The requests are OTLP's, by its own definition, and hold each line whole."""
    text = "".join(json.dumps(line) + "\n" for line in fleet.all) + "no line\n"
    args = [sys.executable, str(CONTRIB / "otlp.py"), "--host", "host-0", "--batch", "50"]
    done = subprocess.run(args, input=text, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.count("\n") == 1 and "not a line" in done.stderr, done.stderr
    lines = []
    requests = done.stdout.splitlines()
    assert len(requests) == -(-(len(fleet.all) + 1) // 50), len(requests)
    for text in requests:
        request = json_format.Parse(text, ExportLogsServiceRequest())
        for resource in request.resource_logs:
            about = {item.key: plain(item.value) for item in resource.resource.attributes}
            assert about == {"service.name": "socket-snoop", "host.name": "host-0"}, about
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    seconds, rest = divmod(record.time_unix_nano, 10**9)
                    line = {item.key: plain(item.value) for item in record.attributes}
                    lines.append((seconds, rest, {"event.name": record.event_name, **line}))
    assert len(lines) == len(fleet.all), len(lines)
    for line, (seconds, rest, told) in zip(fleet.all, lines):
        time = f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
        assert line["time"] == time, f"{time} is not {line['time']}"
        assert {k: v for k, v in line.items() if k != "time"} == told, f"{told} is not {line}"


CHECKS = [duckdb_recipe, clickhouse_recipe, ecs_recipe, otlp_recipe]
