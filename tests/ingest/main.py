"""Runs the checks of the JSON lines, of the recipes in contrib/ that take them, and of the pod there.

Contract: the arguments are the program, the schema and files of lines. Prints `ok NAME`, `FAIL NAME: why` or, where
something is not installed, `skipped: why`, for each check; with CI=true a skip is a failure. Then the
number of checks passed and failed; the exit code is 1 where one failed.
"""

import os
import subprocess
import sys
from pathlib import Path

import chdb
import duckdb

import read
import recipes

HERE = Path(__file__).parent
# In namespaces of their own, so that nothing of the host changes: private daemons, and a pod.
ALONE = ["unshare", "--mount", "--net", "--uts", "--ipc"]
OWN_PROCESSES = ["--pid", "--fork", "--mount-proc", "--kill-child"]


class Count:
    """Of what was printed."""

    passed = failed = 0

    def say(self, line):
        if line.startswith("skipped: ") and os.environ.get("CI") == "true":
            line = "FAIL " + line
        self.passed += line.startswith("ok ")
        self.failed += line.startswith("FAIL ")
        print(line, flush=True)


def run(checks, given, count):
    for check in checks:
        try:
            check(given)
        except Exception as why:  # pylint: disable=broad-except
            count.say(f"FAIL {check.__name__}: {type(why).__name__}: {why}")
        else:
            count.say(f"ok {check.__name__}")


def run_script(inside, args, count):
    """A script whose standard output is such lines. One that dies has failed."""
    name = Path(args[0]).stem
    with subprocess.Popen([*inside, sys.executable, *args], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            count.say(line.rstrip("\n"))
    if child.returncode != 0:
        count.say(f"FAIL {name}: ended with {child.returncode}")


def main(program, schema, *files):
    count = Count()
    lines = read.Lines(schema, files)
    run(read.CHECKS, lines, count)
    print(f"{len(lines.all)} lines, {len(lines.keys)} keys, read by DuckDB {duckdb.__version__} and chdb {chdb.__version__}")
    run(recipes.CHECKS, recipes.Fleet(lines, files), count)
    if os.geteuid() == 0:
        run_script([*ALONE, *OWN_PROCESSES], [HERE / "services.py", *files], count)
        run_script(ALONE, [HERE / "pod.py", program], count)
    else:
        count.say("skipped: rsyslog, journald and the pod take root, for namespaces of their own")
    print(f"{count.passed} passed, {count.failed} failed")
    return 1 if count.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
