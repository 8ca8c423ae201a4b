"""Processes that have imported nothing of ours: forked from one that has paid for the import of torch."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

SERVER = """
import importlib, json, os, runpy, sys, tempfile, traceback

for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print("ready", flush=True)
for line in sys.stdin:
    task = json.loads(line)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = 0
            try:
                os.environ.update(task["environment"])
                sys.path[:0] = task["path"]
                sys.argv = ["-c", *task["argv"]]
                exec(task["code"], {"__name__": "__main__"})
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = [(file.seek(0), file.read().decode())[1] for file in (out, err)]
    print(json.dumps([code, *texts]), flush=True)
"""


class Fresh:
    """Runs code in forks of a process that has imported some modules and none of ours."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    def __call__(
        self, code: str, *argv: object, path: Iterable[str] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``code`` in a fork, with ``path`` before its ``sys.path``, and return its exit code, output and errors."""
        task = {"code": code, "argv": [str(word) for word in argv], "path": [*path], "environment": environment}
        self._server.stdin.write(json.dumps(task) + "\n")
        self._server.stdin.flush()
        return subprocess.CompletedProcess(code, *json.loads(self._server.stdout.readline()))


@contextmanager
def fresh_processes(*modules: str, path: Iterable[str] = ()) -> Iterator[Fresh]:
    """Yield a :class:`Fresh` whose processes have imported ``modules``, found in ``path`` as by ``PYTHONPATH``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    call = [sys.executable, "-W", "ignore", "-c", SERVER, json.dumps(modules)]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as server:
        while server.stdout.readline() not in ("ready\n", ""):
            pass
        yield Fresh(server)
        server.stdin.close()
