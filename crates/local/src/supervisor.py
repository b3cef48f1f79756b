"""Runs the emulator and ends with it, or with whoever started this: its stdin is a pipe that only they hold open.

A killed test run runs no destructors, but the system closes its end of the pipe. The emulator leads a process group of
its own, functions included, so one signal ends all. A line `keep` on stdin cuts the tie; SIGTERM then ends it.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading

folder = sys.argv[1]
os.environ["TMPDIR"] = folder
child = None
lock = threading.Lock()


def end(code):
    with lock:
        if child is not None:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(code)


signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=end, args=(0,)).start())

child = subprocess.Popen([sys.executable, sys.argv[2]], stdin=subprocess.DEVNULL, start_new_session=True)


def watch():
    if sys.stdin.buffer.readline() != b"keep\n":
        end(0)


threading.Thread(target=watch, daemon=True).start()
end(child.wait())
