"""A shop's frontend that asks its backend on loopback, twice at once, and then a cache that is not there:
three processes' worth of connections, named and timed so that a picture of them can be read.
"""

import os
import socket
import threading
import time


def called(name):
    """Names this process."""
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(name)


def answer(client):
    with client:
        client.sendall(client.recv(100) * 100)
        # Until the other end has shut.
        client.recv(1)
        time.sleep(0.01)


def backend(server):
    called("backend")
    while True:
        client = server.accept()[0]
        if client.recv(1, socket.MSG_PEEK) == b"q":
            return
        threading.Thread(target=answer, args=[client]).start()


def ask(port, word, seconds):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(word)
        client.recv(100)
        time.sleep(seconds)
        client.shutdown(socket.SHUT_WR)
        while client.recv(10000):
            pass


def frontend(port, nobody):
    called("frontend")
    for seconds in (0.02, 0.03):
        at_once = threading.Thread(target=ask, args=[port, b"order", 2 * seconds])
        at_once.start()
        ask(port, b"item", seconds)
        time.sleep(0.005)
        try:
            socket.create_connection(("127.0.0.1", nobody)).close()
        except ConnectionRefusedError:
            pass
        at_once.join()
    try:
        ask(port, b"q", 0)
    except ConnectionResetError:
        pass


def main():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    server = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        backend(server)
        os._exit(0)
    port = server.getsockname()[1]
    server.close()
    frontend(port, nobody)
    os.wait()


if __name__ == "__main__":
    main()
