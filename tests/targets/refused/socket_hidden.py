"""A Unix socket whose file is hidden by a mount: no restore could put it there again."""

import ctypes
import os
import socket

from target_api import DIR, call, checkpoint, run


def main():
    os.chdir(DIR)
    os.mkdir("folder")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("folder/name")
    listener.listen()
    mount = [ctypes.c_char_p(text) for text in (b"none", b"folder", b"tmpfs")]
    call("mount", *mount, 0, None)
    checkpoint()
    call("umount2", mount[1], 2)
    client = socket.socket(socket.AF_UNIX)
    client.connect("folder/name")
    client.send(b"here")
    assert listener.accept()[0].recv(10) == b"here"


run(main)
