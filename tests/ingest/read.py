"""Reads lines of JSON as those do who store them: a JSON Schema validator, DuckDB, and ClickHouse's
engine (chdb).

Contract: every key of the schema must come; each must be found by its name and by its path in nested
objects, in each engine, with the values that the lines have.
"""

import json
import re
import tempfile
import uuid
from pathlib import Path

import chdb.session
import duckdb
import jsonschema


class Clash(Exception):
    """A key is a value and holds others, too."""


def nest(flat):
    """An object whose keys are paths, as nested objects."""
    if isinstance(flat, list):
        return [nest(item) for item in flat]
    if not isinstance(flat, dict):
        return flat
    nested = {}
    for key, value in flat.items():
        *outer, last = key.split(".")
        at = nested
        for name in outer:
            at = at.setdefault(name, {})
            if not isinstance(at, dict):
                raise Clash(key)
        if last in at:
            raise Clash(key)
        at[last] = nest(value)
    return nested


def mapping(lines):
    """What one index of Elasticsearch would learn of all lines: the type at each path."""
    known = {}

    def learn(path, value):
        if isinstance(value, list):
            for item in value:
                learn(path, item)
            return
        kind = type(value).__name__
        if known.setdefault(path, kind) != kind:
            raise Clash(f"{path} is {known[path]} and {kind}")
        if isinstance(value, dict):
            for name, member in value.items():
                learn(f"{path}.{name}" if path else name, member)

    for line in lines:
        learn("", nest(line))
    return known


def by_path(nested, path):
    """The value there, if there is one."""
    for name in path:
        if not isinstance(nested, dict) or name not in nested:
            return None
        nested = nested[name]
    return nested


def quoted(path, mark='"'):
    return ".".join(f"{mark}{name}{mark}" for name in path)


def without_none(value):
    """An engine's value without what it fills in where nothing is; a UUID, for which DuckDB takes
    texts that are all like one, as it is written."""
    if isinstance(value, dict):
        return {k: without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_none(v) for v in value]
    return str(value) if isinstance(value, uuid.UUID) else value


class Lines:
    """The lines, and what the schema says of them."""

    def __init__(self, schema, files):
        self.schema = json.loads(Path(schema).read_text(encoding="utf-8"))
        self.text = "".join(Path(file).read_text(encoding="utf-8") for file in files)
        self.all = [json.loads(line) for line in self.text.splitlines()]
        self.nested = [nest(line) for line in self.all]
        objects = self.schema["$defs"]["objects"]
        named = [o for o in objects.values() if "event.name" in o["properties"]]
        self.keys = sorted({key for o in named for key in o["properties"]})
        self.inside = {a: sorted(o["properties"]) for a, o in objects.items() if o not in named}
        self.folder = tempfile.TemporaryDirectory()

    def file(self, name, lines):
        path = Path(self.folder.name) / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    def values(self, key):
        return [line.get(key) for line in self.all]

    def items(self, array, key):
        return [i.get(key) for line in self.all for i in line.get(array, [])]


def every_key_comes(lines):
    for key in lines.keys:
        assert any(v is not None for v in lines.values(key)), key
    for array, keys in lines.inside.items():
        for key in keys:
            assert any(v is not None for v in lines.items(array, key)), f"{array} {key}"
    seen = {line["event.name"] for line in lines.all}
    assert len(seen) == len(lines.schema["oneOf"]), seen


def lines_are_valid(lines):
    jsonschema.Draft202012Validator.check_schema(lines.schema)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    validator = jsonschema.Draft202012Validator(lines.schema, format_checker=checker)
    for line in lines.all:
        for error in validator.iter_errors(line):
            raise AssertionError(f"{error.message} in {line}")
    wrong = [
        {**lines.all[0], "tcp.unheard_of": 1},
        {**lines.all[0], "time": None},
        {**lines.all[-1], "events.shown": "many"},
    ]
    for line in wrong:
        assert not validator.is_valid(line), line


def one_index_holds_all(lines):
    known = mapping(lines.all)
    for key in lines.keys:
        assert key in known, key
    # As these keys were named once.
    for clash in [
        [{"tcp.state": "CLOSE", "tcp.state.old": "CLOSE"}],
        [{"tcp.retransmits": 1}, {"tcp.retransmits.syn": 1}],
        [{"event": "lost"}, {"event.name": "lost"}],
    ]:
        try:
            mapping(clash)
        except Clash:
            continue
        raise AssertionError(f"no clash in {clash}")


def read_json(path):
    return f"read_json('{path}', format='newline_delimited', sample_size=-1, timestampformat='none')"


def select_all(db, what, source):
    return [without_none(row[0]) for row in db.sql(f"SELECT {what} FROM {source}").fetchall()]


def duckdb_by_name(lines):
    source = read_json(lines.file("flat.jsonl", lines.all))
    with duckdb.connect() as db:
        columns = {row[0]: row[1] for row in db.sql(f"DESCRIBE SELECT * FROM {source}").fetchall()}
        assert sorted(columns) == lines.keys, set(columns) ^ set(lines.keys)
        keys = lines.schema["$defs"]["keys"]
        types = {
            "string": ("VARCHAR", "UUID"),
            "integer": ("BIGINT", "UBIGINT"),
            "boolean": ("BOOLEAN",),
        }
        for key in lines.keys:
            wanted = types.get(keys.get(key, {"type": "string"})["type"])
            assert wanted is None or columns[key] in wanted, f"{key}: {columns[key]}"
            assert select_all(db, quoted([key]), source) == lines.values(key), key


def duckdb_nested(lines):
    source = read_json(lines.file("nested.jsonl", lines.nested))
    with duckdb.connect() as db:
        for key in lines.keys:
            path = key.split(".")
            wanted = [by_path(line, path) for line in lines.nested]
            assert select_all(db, quoted(path), source) == wanted, key
        for array, keys in lines.inside.items():
            items = f"(SELECT unnest({quoted(array.split('.'))}) AS item FROM {source})"
            for key in keys:
                found = select_all(db, f"item.{quoted(key.split('.'))}", items)
                assert found == lines.items(array, key), f"{array} {key}"


def clickhouse(lines):
    """A session with the lines, as they are, in a column of type JSON."""
    file = Path(lines.folder.name) / "lines.jsonl"
    file.write_text(lines.text, encoding="utf-8")
    session = chdb.session.Session()
    session.query("CREATE TABLE lines (n UInt64, line JSON) ENGINE = Memory")
    session.query(
        f"INSERT INTO lines SELECT rowNumberInAllBlocks(), json FROM file('{file}', JSONAsObject)"
    )
    return session


SETTINGS = " SETTINGS output_format_json_quote_64bit_integers=0, session_timezone='UTC'"


def rows(session, query):
    out = session.query(query + SETTINGS, "JSONEachRow")
    return [json.loads(line)["v"] for line in str(out).splitlines()]


def as_times(value):
    """A value with its times as ClickHouse gives them: it knows them for what they are."""
    if isinstance(value, dict):
        return {k: as_times(v) for k, v in value.items()}
    if isinstance(value, str) and re.fullmatch(r"[0-9-]{10}T[0-9:]{8}\.[0-9]{9}Z", value):
        return value[:-1].replace("T", " ")
    return value


def clickhouse_by_path(lines):
    with clickhouse(lines) as session:
        count = rows(session, "SELECT count() AS v FROM lines")
        assert count == [len(lines.all)], count
        for key in lines.keys:
            path = quoted(key.split("."), "`")
            # An array of objects, and an object, are read as such.
            holds = key in lines.inside
            whole = lines.schema["$defs"]["keys"].get(key, {}).get("type") == "object"
            cast = ".:`Array(JSON)`" if holds else ""
            what = f"line.^{path}" if whole else f"line.{path}{cast}"
            found = rows(session, f"SELECT {what} AS v FROM lines ORDER BY n")
            wanted = [as_times(by_path(line, key.split("."))) for line in lines.nested]
            if whole:
                wanted = [value or {} for value in wanted]
            if holds:
                wanted = [value or [] for value in wanted]
            assert found == wanted, f"{key}: {found} is not {wanted}"
        for array, keys in lines.inside.items():
            items = f"arrayJoin(line.{quoted(array.split('.'), '`')}.:`Array(JSON)`)"
            for key in keys:
                query = f"SELECT item.{quoted(key.split('.'), '`')} AS v FROM (SELECT n, {items} AS item FROM lines ORDER BY n)"
                assert rows(session, query) == lines.items(array, key), f"{array} {key}"


def clickhouse_nested(lines):
    """Whole objects come back nested, whatever key they are asked by."""
    tops = sorted({key.split(".")[0] for key in lines.keys if "." in key})
    with clickhouse(lines) as session:
        for top in tops:
            found = rows(session, f"SELECT line.^`{top}` AS v FROM lines ORDER BY n")
            wanted = [as_times(line.get(top, {})) for line in lines.nested]
            assert found == wanted, f"{top}: {found} is not {wanted}"


CHECKS = [
    every_key_comes,
    lines_are_valid,
    one_index_holds_all,
    duckdb_by_name,
    duckdb_nested,
    clickhouse_by_path,
    clickhouse_nested,
]
