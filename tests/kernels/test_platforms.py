"""Every instruction set that this machine has gives the same bits; `make cross-bits` has those that it has not."""

import subprocess
import sys
from pathlib import Path

import cross_bits

from dropact._activations import FORMULAS
from dropact.kernels import cpu

SCRIPT = Path(cross_bits.__file__)
OPERATIONS = {"drop_relu", "randomized_relu", "choose"}


def test_every_operation_gives_the_same_bits_in_every_instruction_set(tmp_path, capsys):
    log = tmp_path / "here.txt"
    with log.open("w") as file:
        subprocess.run([sys.executable, SCRIPT, Path(cpu.extension.__file__).parent], stdout=file, check=True)
    assert cross_bits.compare([log]) == 0, capsys.readouterr().out
    found = {line.split()[1] for line in log.read_text().splitlines()}
    assert found >= OPERATIONS | {f"{name}_backward" for name in ("drop_relu", "randomized_relu", "choose")}
    assert found >= {f"accelerated_backward[{name}]" for name in ("relu", "tanh", "sigmoid")}
    assert found >= {f"pair{way}[{name},identity]" for name in FORMULAS for way in ("", "_backward")}


def test_a_difference_is_reported(tmp_path, capsys):
    for name, digest in (("one", "00"), ("other", "01")):
        (tmp_path / f"{name}.txt").write_text(f"baseline choose float32 {digest}\n")
    logs = [tmp_path / "one.txt", tmp_path / "other.txt"]
    assert cross_bits.compare(logs) == 1
    assert "DIFFERENT choose float32" in capsys.readouterr().out
    assert cross_bits.compare(logs[:1]) == 0
