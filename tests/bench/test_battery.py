"""The battery repeats what was doubted on a longer stream, goes on where it was stopped, and says what it needs."""

import importlib.util
import json
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "battery.py"
NAMES = ("first", "second", "third")


@pytest.fixture(scope="module")
def battery():
    spec = importlib.util.spec_from_file_location("battery", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(name, samples, p, assessment):
    return {"test": name, "n": 0, "tsamples": 10, "psamples": samples, "p": p, "assessment": assessment}


def test_what_is_doubted_is_repeated_and_what_is_done_is_kept(battery, monkeypatch, tmp_path):
    out, called = tmp_path / "made" / "battery.json", []

    def run(test, psamples=None):
        called.append((test, psamples))
        if test == "third" and called.count((test, None)) == 1:
            raise KeyboardInterrupt  # stopped here the first time
        weak = test == "first" or (test == "second" and psamples is None)
        return [row(test, psamples or 25, 0.999 if weak else 0.5, "weak" if weak else "passed")]

    monkeypatch.setattr(battery, "run", run)
    monkeypatch.setattr(battery, "TESTS", NAMES)
    monkeypatch.setattr(battery, "version", lambda: "1.2")
    with pytest.raises(KeyboardInterrupt):
        battery.main(["--json", str(out)])
    often = [("first", None), ("first", 100), ("first", 400)]  # and then it is said to be weak
    assert called == [*often, ("second", None), ("second", 100), ("third", None)]
    battery.main(["--json", str(out)])
    assert called[6:] == [("third", None)]
    record = json.loads(out.read_text())
    assert list(record["tests"]) == list(NAMES)
    assert record["tests"]["second"] == [[row("second", 25, 0.999, "weak")], [row("second", 100, 0.5, "passed")]]
    (environment,) = record["environments"]
    assert environment["command"] == f"python benchmarks/battery.py --json {out}"


def test_its_lines_are_read(battery, monkeypatch, tmp_path):
    fake = tmp_path / "dieharder"
    fake.write_text(
        "#!/bin/sh\nhead -c 4000000 > /dev/null\n"
        "echo '#=====#'\necho '  sts_serial|   3|  100000|     400|0.99866035|   WEAK   '\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert battery.run("102", 400) == [row("sts_serial", 400, 0.99866035, "weak") | {"n": 3, "tsamples": 100000}]


def test_a_missing_dieharder_is_named(battery, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="apt-get install dieharder"):
        battery.version()
