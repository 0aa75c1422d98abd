"""Runs the pod of contrib/kubernetes/daemonset.yaml without Kubernetes: its container's settings become
those of crun, a runtime that nodes have too.

Contract: to be run as root in namespaces of its own for mounts and network, with the program as the
argument. The manifest is held against Kubernetes' own schema, by kubernetes-validate. Each setting that
gives a right is shown to be needed. Prints `ok NAME`, `FAIL NAME: why` or `skipped: why`.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kubernetes_validate
import yaml

CONTRIB = Path(__file__).resolve().parents[2] / "contrib" / "kubernetes"
PATIENCE = 40
# What nobody uses in the test's own network.
PORT = 8517
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


class Manifest:
    """What the manifest says."""

    def __init__(self):
        text = (CONTRIB / "daemonset.yaml").read_text(encoding="utf-8")
        self.all = list(yaml.safe_load_all(text))
        (daemons,) = (item for item in self.all if item["kind"] == "DaemonSet")
        self.pod = daemons["spec"]["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.rights = self.container["securityContext"]
        self.caps = self.rights["capabilities"]["add"]
        # Those that may be added: in comments, so that nobody has them unasked.
        self.more = re.findall(r"^ +# - ([A-Z_]+)$", text, re.MULTILINE)


class Pod:
    """The container, as a runtime gets it from a kubelet."""

    def __init__(self, program, manifest, caps, args=(), host_pid=True):
        rights, self.folder = manifest.rights, tempfile.TemporaryDirectory()
        root = Path(self.folder.name) / "rootfs"
        root.mkdir()
        shutil.copy(program, root / "socket-snoop")
        subprocess.run(["crun", "spec"], cwd=self.folder.name, check=True)
        config = Path(self.folder.name) / "config.json"
        spec = json.loads(config.read_text(encoding="utf-8"))
        names = [f"CAP_{cap}" for cap in caps]
        spec["process"] |= {
            "args": ["/socket-snoop", *manifest.container["args"], *args],
            "terminal": False,
            "user": {"uid": rights["runAsUser"], "gid": 0},
            "noNewPrivileges": not rights["allowPrivilegeEscalation"],
            # What nodes give at the least.
            "rlimits": [{"type": "RLIMIT_MEMLOCK", "soft": 65536, "hard": 65536}],
            "capabilities": {kind: names for kind in ("bounding", "effective", "permitted")},
        }
        spec["root"]["readonly"] = rights["readOnlyRootFilesystem"]
        profile = rights["seccompProfile"]
        assert profile["type"] == "Localhost"
        profile = CONTRIB / profile["localhostProfile"]
        spec["linux"]["seccomp"] = json.loads(profile.read_text(encoding="utf-8"))
        kinds = {"network", "ipc", "uts", "mount", "cgroup"} | (set() if host_pid else {"pid"})
        spec["linux"]["namespaces"] = [{"type": kind} for kind in sorted(kinds)]
        config.write_text(json.dumps(spec), encoding="utf-8")
        self.name = f"pod-{os.getpid()}-{id(self)}"

    def crun(self, *args):
        # Not in cgroups of its own: not every host lets it.
        return ["crun", "--cgroup-manager=disabled", f"--root={self.folder.name}/state", *args]

    def __enter__(self):
        self.out = open(f"{self.folder.name}/out", "w+", encoding="utf-8")
        self.err = open(f"{self.folder.name}/err", "w+", encoding="utf-8")
        args = self.crun("run", f"--bundle={self.folder.name}", self.name)
        self.child = subprocess.Popen(args, stdout=self.out, stderr=self.err)
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            subprocess.run(self.crun("kill", self.name, "KILL"), check=False, stderr=subprocess.DEVNULL)
            self.child.wait(PATIENCE)
        self.out.close()
        self.err.close()

    def said(self):
        return Path(self.err.name).read_text(encoding="utf-8")

    def lines(self):
        whole = Path(self.out.name).read_text(encoding="utf-8").rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def eventually(self, is_so):
        end = time.monotonic() + PATIENCE
        while not is_so():
            assert self.child.poll() is None, f"ended with {self.child.returncode}: {self.said()}"
            assert time.monotonic() < end, f"not within {PATIENCE} s: {self.said()}"
            time.sleep(0.02)

    def started(self):
        self.eventually(lambda: "Monitoring socket connections" in self.said())

    def status(self, key):
        state = subprocess.run(self.crun("state", self.name), check=True, capture_output=True)
        text = Path(f"/proc/{json.loads(state.stdout)['pid']}/status").read_text(encoding="utf-8")
        return re.search(rf"^{key}:\s*(.*)$", text, re.MULTILINE)[1]

    def stop(self):
        """As the kubelet does it. The summary."""
        subprocess.run(self.crun("kill", self.name, "TERM"), check=True)
        code = self.child.wait(PATIENCE)
        assert code == 0, f"ended with {code}: {self.said()}"
        return self.lines()[-1]

    def ended(self):
        code = self.child.wait(PATIENCE)
        return code, self.said()


def manifest_is_valid(_program, manifest):
    """For each version of Kubernetes that the schema is there of, from the first on that has all it says."""
    versions = kubernetes_validate.utils.all_versions()
    recent = [version for version in versions if int(version.split(".")[1]) >= 30]
    assert len(recent) > 3, versions
    for version in recent:
        for item in manifest.all:
            kubernetes_validate.validate(item, version, strict=True)
    wrong = json.loads(json.dumps(manifest.all[-1]))
    wrong["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capability"] = {}
    try:
        kubernetes_validate.validate(wrong, recent[-1], strict=True)
    except kubernetes_validate.ValidationError:
        return
    raise AssertionError("a key that Kubernetes has not is let through")


def least_rights(_program, manifest):
    assert "privileged" not in manifest.rights or manifest.rights["privileged"] is False
    assert manifest.rights["capabilities"]["drop"] == ["ALL"]
    assert len(manifest.caps) == 3 and len(manifest.more) == 3, (manifest.caps, manifest.more)
    assert not manifest.pod.get("volumes")


def converse():
    """A connection of this process that ends; its port there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client, server.accept()[0] as peer:
            peer.sendall(b"x")
            client.recv(1)
        return server.getsockname()[1]


def pod_tells_of_others(program, manifest):
    """With just these rights a connection elsewhere is told, with the id of its process there."""
    with Pod(program, manifest, manifest.caps) as pod:
        pod.started()
        ports = set()

        def told():
            # Now and then a kernel passes an event by.
            ports.add(converse())
            records = [line for line in pod.lines() if line["event.name"] == "connection"]
            own = [line for line in records if line["network.peer.port"] in ports]
            return any(line.get("process.pid") == os.getpid() for line in own)

        pod.eventually(told)
        most = manifest.container["resources"]["limits"]["memory"]
        number, unit = re.fullmatch(r"(\d+)(\w+)", most).groups()
        used = int(pod.status("VmHWM").split()[0]) * 1024
        assert used < int(number) * UNITS[unit] / 2, f"{used} bytes of {most}"
        assert pod.status("Seccomp") == "2" and pod.status("NoNewPrivs") == "1"
        assert pod.stop()["event.name"] == "summary"
        assert "mlock" not in pod.said() and "system call" not in pod.said(), pod.said()


def each_capability_is_needed(program, manifest):
    """Without one of the first two it says so, with exit code 3; without the third its rings are small."""
    for cap in ("BPF", "PERFMON"):
        with Pod(program, manifest, [c for c in manifest.caps if c != cap], ["--duration=0.1"]) as pod:
            code, said = pod.ended()
            assert code == 3 and f"CAP_{cap}" in said, f"without {cap}: {code}: {said}"
    with Pod(program, manifest, [c for c in manifest.caps if c != "IPC_LOCK"], ["--duration=0.1"]) as pod:
        code, said = pod.ended()
        assert code == 0 and "CAP_IPC_LOCK" in said, f"without IPC_LOCK: {code}: {said}"


OTHER_USER = f"""
import socket
server = socket.create_server(("127.0.0.1", {PORT}))
open_ends = [(socket.create_connection(("127.0.0.1", {PORT})), server.accept()) for _ in range(4)]
print("open", flush=True)
input()
"""


def more_is_needed_for_what_was_open(program, manifest):
    """Another user's connections in another network namespace are found with all of these, each of them."""
    args = [sys.executable, "-c", OTHER_USER]
    if os.path.realpath(sys.executable).startswith("/root/"):
        # Which another user can't execute.
        args[0] = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=65534, cwd="/") as other:
        assert other.stdout.readline() == b"open\n"

        def found(caps, host_pid=True):
            asked = [f"peer port {PORT} and pid {other.pid}"]
            with Pod(program, manifest, [*manifest.caps, *caps], asked, host_pid) as pod:
                pod.started()
                return pod.stop()["connections.untouched"]

        end = time.monotonic() + PATIENCE
        while (count := found(manifest.more)) != 4:
            # On a busy host the search may go on beyond the start.
            assert time.monotonic() < end, f"{count} found with all"
        for cap in manifest.more:
            count = found([c for c in manifest.more if c != cap])
            assert count == 0, f"{count} found without {cap}"
        count = found(manifest.more, host_pid=False)
        assert count == 0, f"{count} found without hostPID"
        other.communicate(b"\n")


def what_is_missing():
    """Why the pod can't be run here, if so."""
    if shutil.which("crun") is None:
        return "crun (package crun) is missing: run 'scripts/setup'"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "the pod takes the kernel's BTF"
    level = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text(encoding="utf-8"))
    return "kernel.perf_event_paranoid is 3 here: a ring takes CAP_SYS_ADMIN" if level >= 3 else None


def main(program):
    manifest = Manifest()
    checks = [manifest_is_valid, least_rights]
    missing = what_is_missing()
    if missing:
        print(f"skipped: {missing}")
    else:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        if Path("/sys/fs/cgroup/unified/cgroup.procs").exists():
            # crun knows cgroups of one version or the other, not both.
            subprocess.run(["mount", "--bind", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"], check=True)
        checks += [pod_tells_of_others, each_capability_is_needed, more_is_needed_for_what_was_open]
    for check in checks:
        try:
            check(program, manifest)
        except Exception as why:  # pylint: disable=broad-except
            print(f"FAIL {check.__name__}: {type(why).__name__}: {why}", flush=True)
        else:
            print(f"ok {check.__name__}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
