"""Programs in Python that tests start, and end: without the seconds in which each would import torch and flatlab.

On Linux they are forks of one process in which nothing has happened but these imports. A fork becomes the program at
its top level, and so ends as any program does: with an error, by a signal, with threads at work. Elsewhere, and beside
CUDA, which bears no fork, Python is started anew.
"""

import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import types

import torch

FORKS = sys.platform == "linux" and not torch.cuda.is_available()
NUMBER = struct.Struct("i")


def start(arguments, cwd=None, env=None, session=False):
    """`python` with arguments, as `subprocess.Popen` has it, with pipes of text; `session`: in one of its own."""
    arguments, env = [str(argument) for argument in arguments], {**(os.environ if env is None else env)}
    if FORKS:
        return Program(arguments, str(cwd or os.getcwd()), env, session)
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, cwd=cwd, env=env, start_new_session=session, text=True, **pipes)


def run(arguments, cwd=None, env=None, timeout=None):
    """Starts a program and waits: its exit status and what it said."""
    program = start(arguments, cwd, env)
    try:
        out, said = program.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        program.kill()
        program.communicate()
        raise
    return subprocess.CompletedProcess(arguments, program.returncode, out, said)


class Program:
    """A fork that runs a program."""

    def __init__(self, arguments, cwd, env, session):
        self.args, self.returncode, self._said = arguments, None, None
        self._answers, theirs = socket.socketpair()
        stdin, mine = os.pipe()
        self.stdin = os.fdopen(mine, "w")
        self._files = [tempfile.TemporaryFile("w+") for _ in ("stdout", "stderr")]  # noqa: SIM115
        request = {"arguments": arguments, "cwd": cwd, "env": env, "session": session}
        handed = [theirs.fileno(), stdin, *(file.fileno() for file in self._files)]
        socket.send_fds(_server(), [json.dumps(request).encode()], handed)
        theirs.close()
        os.close(stdin)
        (self.pid,) = NUMBER.unpack(self._answers.recv(NUMBER.size))

    def wait(self, timeout=None):
        if self.returncode is None:
            self._answers.settimeout(timeout)
            try:
                (self.returncode,) = NUMBER.unpack(self._answers.recv(NUMBER.size))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout) from None
        return self.returncode

    def poll(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def communicate(self, timeout=None):
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        self.wait(timeout)
        if self._said is None:
            for file in self._files:
                file.seek(0)
            self._said = tuple(file.read() for file in self._files)
            for held in (*self._files, self._answers):
                held.close()
        return self._said

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


@functools.cache
def _server():
    """The line to the process that forks; it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = f"import programs\ncode, names = programs.serve({theirs.fileno()})\nexec(code, names)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "env": environment}
    process = subprocess.Popen([sys.executable, "-c", program], pass_fds=[theirs.fileno()], **quiet)
    theirs.close()

    @atexit.register
    def end():
        ours.close()
        process.wait()

    return ours


def serve(line):
    """Forks at each request; returns, in a fork only, what the program is: code, and the names it runs with."""
    import pandas  # noqa: F401 - what programs use
    import pyarrow.parquet  # noqa: F401
    import sklearn.datasets  # noqa: F401

    import flatlab as fl

    fl.load, fl.train, fl.sweep, fl.zoo  # noqa: B018 - imported when they are first named
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for pytest, and for the programs
    requests = socket.socket(fileno=line)
    while True:
        request, handed, _, _ = socket.recv_fds(requests, 2**20, 4)
        with contextlib.suppress(ChildProcessError):  # those that waited for a program, and are done
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not request:
            os._exit(0)
        if not os.fork():
            break
        for held in handed:
            os.close(held)
    requests.close()
    answers, *streams = handed
    program = os.fork()
    if program:
        for held in streams:
            os.close(held)
        os.write(answers, NUMBER.pack(program))
        ended = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            os.write(answers, NUMBER.pack(ended))
        os._exit(0)
    os.close(answers)
    for number, held in enumerate(streams):
        os.dup2(held, number)
        os.close(held)
    return _become(**json.loads(request))


def _become(arguments, cwd, env, session):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if session:
        os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    flag, *rest = arguments
    if flag == "-c":
        text, file, first, sys.argv = rest[0], "<string>", "", ["-c", *rest[1:]]
    elif flag == "-m":
        text = f"import runpy; runpy.run_module({rest[0]!r}, run_name='__main__', alter_sys=True)"
        file, first, sys.argv = "<string>", cwd, ["-m", *rest[1:]]
    else:
        file = main.__file__ = os.path.abspath(flag)
        first, sys.argv = os.path.dirname(file), arguments
        with open(file, encoding="utf-8") as source:
            text = source.read()
    own = env.get("PYTHONPATH", "")
    sys.path[:] = [first, *filter(None, own.split(os.pathsep)), *sys.path[1:]]
    return compile(text, file, "exec"), vars(main)
