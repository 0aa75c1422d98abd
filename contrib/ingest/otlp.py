#!/usr/bin/env python3
"""JSON lines on standard input become requests of OTLP/HTTP in JSON on standard output, one a line: what
any collector takes at /v1/logs.

    tail -F socket_monitor.log | otlp.py --host "$(hostname)" | while read -r request; do
        printf %s "$request" | curl -sS -H 'Content-Type: application/json' -d @- http://127.0.0.1:4318/v1/logs
    done

Each line is a log record: `time` is its time, `event.name` its event name, and all other keys are its
attributes, by their own names, which are OpenTelemetry's where it has one. A request holds up to --batch
lines (256), or those of the last second. Standard library only.
"""

import argparse
import json
import os
import select
import sys
from datetime import datetime, timezone

WARN, INFO = 13, 9


def value(of):
    """An AnyValue. Integers are strings, as protobuf's JSON has them for 64 bits."""
    if isinstance(of, bool):
        return {"boolValue": of}
    if isinstance(of, int):
        return {"intValue": str(of)}
    if isinstance(of, float):
        return {"doubleValue": of}
    if isinstance(of, list):
        return {"arrayValue": {"values": [value(item) for item in of]}}
    if isinstance(of, dict):
        return {"kvlistValue": {"values": pairs(of)}}
    return {"stringValue": str(of)}


def pairs(of):
    return [{"key": key, "value": value(item)} for key, item in of.items()]


def nanoseconds(time):
    """Of a time like 2024-12-30T00:00:25.454123456Z, since 1970."""
    whole, fraction = time.rstrip("Z").split(".")
    seconds = datetime.fromisoformat(whole).replace(tzinfo=timezone.utc).timestamp()
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0"))


def record(line):
    name = line["event.name"]
    rest = {key: item for key, item in line.items() if key not in ("time", "event.name", "host.name")}
    level, text = (WARN, "WARN") if name == "lost" else (INFO, "INFO")
    return {
        "timeUnixNano": str(nanoseconds(line["time"])),
        "severityNumber": level,
        "severityText": text,
        "eventName": name,
        "attributes": pairs(rest),
    }


def request(records, host):
    about = {"service.name": "socket-snoop"} | ({"host.name": host} if host else {})
    logs = [{"scope": {"name": "socket-snoop"}, "logRecords": records}]
    return {"resourceLogs": [{"resource": {"attributes": pairs(about)}, "scopeLogs": logs}]}


def batches(source, most):
    """Lists of whole lines: as many as came within a second of the last one, but not more than that."""
    lines, begun = [], b""
    while True:
        ready = select.select([source], [], [], 1 if lines else None)[0]
        piece = os.read(source, 1 << 16) if ready else b""
        *whole, begun = (begun + piece).split(b"\n")
        lines += whole
        while len(lines) >= most or (lines and not piece):
            yield lines[:most]
            lines = lines[most:]
        if ready and not piece:
            if begun:
                print("otlp.py: the last line has no end, and is left out", file=sys.stderr)
            return


def main():
    parser = argparse.ArgumentParser(description="JSON lines of socket-snoop as OTLP/HTTP requests")
    parser.add_argument("--host", help="the host that the lines are of")
    parser.add_argument("--batch", type=int, default=256, help="lines in a request, at most")
    args = parser.parse_args()
    for lines in batches(sys.stdin.fileno(), args.batch):
        records = []
        for line in lines:
            try:
                records.append(record(json.loads(line)))
            except (ValueError, KeyError, TypeError, AttributeError) as why:
                print(f"otlp.py: not a line of socket-snoop: {why}: {line[:80]!r}", file=sys.stderr)
        if records:
            print(json.dumps(request(records, args.host), separators=(",", ":")), flush=True)


if __name__ == "__main__":
    main()
