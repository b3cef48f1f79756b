"""Runs `aws` or `sam`, as its argument says, once for each line of input: {"folder", "arguments", "said"}. Answers each
with the exit code. One that goes on after so many seconds as the second argument says is ended: if it was busy, that is
its exit code, and if it only waited, null.

Each run is a fork of this process, which has imported what a run needs: otherwise that is most of the time it takes.
"""

import json
import os
import signal
import sys
import time
import traceback

program, patience = sys.argv[1], float(sys.argv[2])
sys.argv = [program]
if program == "aws":
    import awscli.clidriver
    import awscli.customizations.cloudformation.package

    def run():
        sys.exit(awscli.clidriver.main())
else:
    import samcli.commands.package.command
    import samcli.commands.package.package_context
    from samcli.cli.main import cli

    def run():
        cli(prog_name="sam")


def child(job):
    said = os.open(job["said"], os.O_WRONLY | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(source, target)
    os.chdir(job["folder"])
    sys.argv = [program, *job["arguments"]]
    code = 1
    try:
        run()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait(process):
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    _, status, used = os.wait4(process, 0)
    waited = used.ru_utime + used.ru_stime < patience / 10
    return None if waited else os.waitstatus_to_exitcode(status)


for line in sys.stdin:
    process = os.fork()
    if process == 0:
        child(json.loads(line))
    print(json.dumps(wait(process)), flush=True)
