#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A link between two network namespaces that takes its time, where the kernel has no netem:

    delaylink.py MS NAMESPACE ADDRESS NAMESPACE ADDRESS

gives each namespace (of `ip netns`) a device with its address, and hands what either sends to the other after MS
milliseconds. Says "ready", and ends at the end of its input. Needs root and /dev/net/tun."""
import collections
import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI, CLONE_NEWNET = 0x400454CA, 1, 0x1000, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def open_device(namespace, address):
    with open(f"/var/run/netns/{namespace}") as f:
        if libc.setns(f.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"namespace {namespace}")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"delayed", IFF_TUN | IFF_NO_PI))
    for words in (["addr", "add", address, "dev", "delayed"], ["link", "set", "delayed", "up"]):
        subprocess.run(["ip", *words], check=True)
    return fd


def take(fd, to, due, waiting):
    while True:
        try:
            waiting.append((due, to, os.read(fd, 65536)))
        except BlockingIOError:
            return


def main():
    delay = float(sys.argv[1]) / 1000
    ends = [open_device(*sys.argv[i:i + 2]) for i in (2, 4)]
    waiting = collections.deque()  # the delay is the same for all, so they are in order
    print("ready", flush=True)
    while True:
        left = waiting[0][0] - time.monotonic() if waiting else None
        there, _, _ = select.select([*ends, sys.stdin], [], [], left if left is None or left > 0 else 0)
        if sys.stdin in there:
            return
        now = time.monotonic()
        for i in (0, 1):
            if ends[i] in there:
                take(ends[i], ends[1 - i], now + delay, waiting)
        while waiting and waiting[0][0] <= time.monotonic():
            _, to, packet = waiting.popleft()
            os.write(to, packet)


if __name__ == "__main__":
    main()
