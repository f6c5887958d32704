"""Programs that train many runs, as a person starts and ends them: Ctrl-C, kill, no main guard, classes of one's own."""

import concurrent.futures
import contextlib
import os
import shutil
import signal
import sys
import time
import types
from unittest import mock

import programs
import pytest
from patience import PATIENCE, until

import flatlab as fl
from flatlab.cli import main
from flatlab.declare import SettingError
from flatlab.training.checkpoints import Store
from flatlab.training.importing import import_own, own_classes
from flatlab.training.pool import refuse_unguarded

HEAD = """
import flatlab as fl
data = fl.load("few").federate(fl.IID(), clients=4)
small = fl.ModelSpec(name="lenet", width=0.125)
first = fl.Experiment(data=data.spec, model=small, algorithm=fl.FedAvg(), rounds={rounds})
"""
SWEEP = (  # on a GPU runs of one shape are one piece of work
    'fl.sweep([first.replace(seed=seed) for seed in range({runs})], store="runs", workers={workers}, device="cpu",'
    " progress=False)"
)
GUARDED = HEAD + 'if __name__ == "__main__":\n    ' + SWEEP
OWN = """
import flatlab as fl

class Doubled(fl.FedAvg):
    kind: str = "Doubled"
    factor: float = fl.setting(2.0, "of each message", gt=0)

    def finish(self, carry, lr):
        message = super().finish(carry, lr)
        return message._replace(update={name: self.factor * value for name, value in message.update.items()})
"""


@pytest.fixture
def program(tmp_path, few):
    """Starts a Python program in a folder of its own; whatever is left of it is killed."""
    started = []
    shutil.copytree(few, tmp_path / "data")

    def start(text):
        (tmp_path / "program.py").write_text(text)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        process = programs.start(["program.py"], cwd=tmp_path, env=environment, session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def rounds(folder):
    return sorted(max(Store(path).checkpoints(), default=0) for path in folder.glob("runs/*-*"))


def family(process):
    """The processes of a program's session that are alive."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
            state, _, _, session = file.read().rpartition(")")[2].split()[:4]
            found += [int(pid)] if int(session) == process.pid and state != "Z" else []
    return found


def wait_for_the_end(process):
    """Until nothing of a program's session is left: a process closes its files before it is gone."""
    until(lambda: not family(process))


linux = pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks for processes in /proc")


@linux
def test_ctrl_c_ends_rounds_in_flight_and_begins_no_other_run(program, tmp_path):
    process = program(GUARDED.format(rounds=100_000, runs=6, workers=1))
    until(lambda: any(rounds(tmp_path)), process=process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everybody gets it
    said = process.communicate(timeout=PATIENCE)[1]
    assert said.count("Traceback") == 1 and "KeyboardInterrupt: sweep stopped; the same call goes on" in said
    (reached,) = rounds(tmp_path)
    assert 0 < reached < 100_000
    wait_for_the_end(process)
    assert not list(tmp_path.glob("runs/.stop*"))


ENDLESS = """
import time
import flatlab.training.round as federation
federation.Federation.evaluate = lambda *_: time.sleep(1000)
"""


@linux
def test_a_second_ctrl_c_does_not_wait(program, tmp_path):
    process = program(ENDLESS + GUARDED.format(rounds=3, runs=3, workers=1))
    until(lambda: list(tmp_path.glob("runs/*-*/experiment.json")), process=process)
    os.kill(process.pid, signal.SIGINT)  # as `kill -INT` does: the parent alone gets it
    until(lambda: list(tmp_path.glob("runs/.stop*")), process=process)
    time.sleep(0.5)
    assert process.poll() is None and len(family(process)) > 1  # it waits for the round in flight
    os.kill(process.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=PATIENCE)[1]
    wait_for_the_end(process)


@linux
def test_workers_end_with_their_parent(program, tmp_path):
    process = program(GUARDED.format(rounds=100_000, runs=2, workers=1))
    until(lambda: any(rounds(tmp_path)), process=process)
    assert len(family(process)) > 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)
    wait_for_the_end(process)  # within a second, and what a busy machine adds


def test_a_script_without_main_guard_is_told_in_one_sentence(program, tmp_path):
    text = 'print("imported")\n' + (HEAD + SWEEP).format(rounds=2, runs=2, workers=2)
    shown, said = program(text).communicate(timeout=PATIENCE)
    assert said.count("Traceback") == 1 and said.count("__main__") == 1
    assert "sweep: starts new processes, and each imports this script first" in said
    assert not list(tmp_path.glob("runs/*")) and shown.split() == ["imported"]  # by no new process


def test_a_guard_that_does_not_hold_is_told_by_the_first_new_process(program, tmp_path):
    text = HEAD + "if first:\n    " + SWEEP
    said = program(text.format(rounds=2, runs=2, workers=1)).communicate(timeout=PATIENCE)[1]
    assert said.count("Traceback") == 1 and said.count("__main__") == 1
    assert "sweep: starts new processes, and each imports this script first" in said
    assert not list(tmp_path.glob("runs/*"))


BARE = ["{call}", "def main():\n    {call}\nmain()", "with open(__file__):\n    for _ in [1]:\n        {call}",
        "try:\n    ([x for x in [1] if x], {call}, 1 if __file__ else 2)\nfinally:\n    pass"]  # fmt: skip
GUARDS = ["if __name__ == '__main__':\n    {call}", "def main():\n    if 1:\n        {call}\nmain()",
          "def main():\n    if 0:\n        return\n    {call}\nmain()", "__name__ == '__main__' and {call}",
          "def main():\n    {call}\nif __name__ == '__main__':\n    main()"]  # fmt: skip


@pytest.mark.parametrize("text", [*BARE, *GUARDS])
def test_only_what_is_certain_from_a_scripts_text_is_refused_before_processes_start(text, tmp_path, monkeypatch):
    file = tmp_path / "script.py"
    file.write_text(text.format(call="refuse_unguarded()"))
    script = types.ModuleType("__main__")
    script.__file__, script.refuse_unguarded = str(file), refuse_unguarded
    monkeypatch.setitem(sys.modules, "__main__", script)
    with pytest.raises(SettingError, match="__main__") if text in BARE else contextlib.nullcontext():
        exec(compile(file.read_text(), str(file), "exec"), vars(script))
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))  # a profiler, say, runs it
    exec(compile(file.read_text(), str(file), "exec"), vars(script))


def test_a_script_that_fails_in_new_processes_is_not_tried_again(program):
    text = 'if __name__ != "__main__":\n    raise OSError("not here")\n' + GUARDED.format(rounds=2, runs=2, workers=1)
    said = program(text).communicate(timeout=PATIENCE)[1]
    assert said.count("OSError: not here") == 1 and "a worker ended with an error, printed above" in said


def test_a_program_that_is_in_no_file_is_refused(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(__file__="<stdin>", __spec__=None))
    with pytest.raises(fl.SettingError, match="<stdin> is no file: save the script"):
        fl.sweep([fl.Experiment(data=digits.spec, algorithm=fl.FedAvg())], store=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_view_ends_the_sweep_after_the_rounds_in_flight(digits, tmp_path):
    def shown(done, total):
        if done:
            raise OSError("cannot draw")

    model = fl.ModelSpec(name="lenet", width=0.125)
    first = fl.Experiment(data=digits.spec, model=model, algorithm=fl.FedAvg(), rounds=100_000)
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(OSError, match="cannot draw"):
        fl.sweep([first, first.replace(seed=1)], pool, store=tmp_path, progress=shown, device="cpu")
    (run,) = tmp_path.iterdir()
    assert 0 < fl.Run.open(run, digits).round < 100_000


OWN_SWEEP = """
from own import Doubled
class Script(fl.FedAvg):
    kind: str = "Script"
    def finish(self, carry, lr):
        return super().finish(carry, lr)
if __name__ == "__main__":
    own = [first.replace(algorithm=Doubled(lr=0.05)), first.replace(algorithm=Script(lr=0.05))]
    print(*[run.id for run in fl.sweep(own, store="runs", workers=1, progress=False)])
"""


def test_own_algorithms_of_modules_and_of_the_script_work_in_workers(program, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    process = program(HEAD.format(rounds=2) + OWN_SWEEP)
    out, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert rounds(tmp_path) == [2, 2] and {path.name for path in tmp_path.glob("runs/*")} == set(out.split())


def test_what_workers_cannot_import_is_refused_before_they_start(digits, tmp_path, monkeypatch):
    class Inner(fl.SGD):
        kind: str = "inner"

    first = fl.Experiment(data=digits.spec, algorithm=fl.FedAvg(local=Inner()))
    with pytest.raises(fl.SettingError, match=r"Inner: is defined inside a function.*put the class at the top level"):
        fl.sweep([first], store=tmp_path)
    Inner.__module__, Inner.__qualname__ = "__main__", "Inner"  # as in a notebook's cell
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(Inner=Inner))
    with pytest.raises(fl.SettingError, match=r"Inner: is defined in a notebook.*put the class at the top level"):
        fl.sweep([first], store=tmp_path)
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(Inner=Inner, __file__="script.py"))
    assert own_classes([first], None) == [("__main__", "Inner")]
    with pytest.raises(fl.SettingError, match="Inner: is defined in a script"):
        own_classes([first], mock.Mock(spec=concurrent.futures.Executor))  # a cluster does not know this script
    assert own_classes([first], concurrent.futures.ThreadPoolExecutor(1)) == []  # nobody has to import it
    assert not list(tmp_path.iterdir())


def test_a_worker_says_which_module_it_lacks():
    with pytest.raises(fl.SettingError, match=r"Mine: this worker cannot import nowhere .*PYTHONPATH"):
        import_own([("nowhere", "Mine")])
    with pytest.raises(fl.SettingError, match=r"Mine: workers do not find it in json; .*top level"):
        import_own([("json", "Mine")])


def test_the_command_line_imports_own_modules(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_on_the_command_line.py").write_text(OWN.replace("Doubled", "Listed"))
    (tmp_path / "run.toml").write_text(
        'rounds = 2\nmodel = {name = "lenet", width = 0.125}\n'
        'data = {name = "digits", clients = 4}\nalgorithm = {kind = "Listed", factor = 1.5}\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])

    def flatlab(*arguments):
        status = main(arguments)
        return status, "".join(capsys.readouterr())

    status, said = flatlab("run", "run.toml")
    assert status == 2 and "unknown kind 'Listed'" in said and "--import MODULE" in said
    status, said = flatlab("run", "run.toml", "--import", "own_on_the_command_line.py")
    assert status == 2 and "give a module's name, as in 'own_on_the_command_line'" in said
    (tmp_path / "own_with_a_slip.py").write_text("class Half(\n")
    status, said = flatlab("run", "run.toml", "--import", "own_with_a_slip")
    assert status == 2 and "import = 'own_with_a_slip': SyntaxError" in said and "Traceback" not in said
    own = ("--import", "own_on_the_command_line")
    assert flatlab("run", "run.toml", *own)[0] == 0
    (run,) = tmp_path.glob("runs/listed*")
    status, said = flatlab("show", str(run), *own)
    assert status == 0 and "Listed, 2 of 2 rounds" in said
    assert "factor" in flatlab("schema", *own)[1]
