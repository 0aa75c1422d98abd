#!/usr/bin/env python3
"""JSON lines on standard input go to the journal of systemd, each key a field: so that the journal finds
them by what they say.

    socket-snoop --format json --no-log | journald.py
    journalctl -t socket-snoop NETWORK_PEER_ADDRESS=10.0.0.7 CONNECTION_CAUSE=refused
    journalctl -t socket-snoop --output json

A field's name is the key's in capitals, with _ for each dot; MESSAGE is the whole line. Booleans are
true and false; lists and objects stay JSON. The journal's own time is when it got the line; the kernel's
is in TIME. Standard library only.
"""

import json
import socket
import struct
import sys

JOURNAL = "/run/systemd/journal/socket"
WARNING, INFO = 4, 6


def text(value):
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def field(name, value):
    """Of the journal's protocol: a value with a newline goes behind its length."""
    data = value.encode()
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def entry(line):
    keys = json.loads(line)
    level = WARNING if keys.get("event.name") == "lost" else INFO
    fields = {"MESSAGE": line, "PRIORITY": str(level), "SYSLOG_IDENTIFIER": "socket-snoop"}
    for key, value in keys.items():
        fields[key.upper().replace(".", "_")] = text(value)
    return b"".join(field(name, value) for name, value in fields.items())


def main():
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        journal.connect(JOURNAL)
    except OSError as why:
        sys.exit(f"journald.py: the journal is not there: {JOURNAL}: {why.strerror}")
    for line in sys.stdin:
        line = line.rstrip("\n")
        try:
            journal.sendall(entry(line))
        except (ValueError, AttributeError) as why:
            print(f"journald.py: not a line of JSON: {why}: {line[:80]!r}", file=sys.stderr)
        except OSError as why:
            sys.exit(f"journald.py: the journal takes no more: {why.strerror}")


if __name__ == "__main__":
    main()
