"""Prints the JSON lines of a run of the program named by the argument, and of its `--check`, with some
connections on loopback meanwhile. The program must end by itself, and well.
"""

import socket
import subprocess
import sys
import time

SECONDS = 2


def traffic():
    """Connections that end in order, and one that is refused."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port)) as client:
                with server.accept()[0] as accepted:
                    accepted.sendall(client.recv(0) + b"x" * 1000)
                    client.recv(1000)
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        pass


def main(program):
    check = subprocess.run([program, "--check", "--format", "json"], stdout=subprocess.PIPE, check=False)
    if check.returncode not in (0, 1):
        sys.exit(f"{program} --check ends with {check.returncode}")
    args = [program, "--format", "json", "--no-log", "--duration", str(SECONDS)]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        time.sleep(SECONDS / 2)
        traffic()
        lines, said = run.communicate(timeout=10 * SECONDS)
    if run.returncode != 0:
        sys.exit(f"{program} ends with {run.returncode}: {said.decode()}")
    sys.stdout.buffer.write(check.stdout + lines)


if __name__ == "__main__":
    main(sys.argv[1])
