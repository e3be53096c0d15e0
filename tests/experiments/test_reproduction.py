"""What a folder of a reproduction holds, and what may join it."""

import json
from dataclasses import replace

import pytest

from dropact.experiments import recipe
from dropact.experiments.comparison import claim_folder, join_folder, read_claim
from dropact.experiments.errors import ConfigError, RecordError
from dropact.experiments.reproduction import Reproduction

TABLE = recipe("table1")


def test_a_row_s_own_field_stands_above_the_machine_s_and_below_the_user_s():
    named = recipe("depth-budget-small")
    machine = {"precision": "float32", "memory_format": "contiguous"}

    def precisions(made):
        return {config.precision for config in made.configs()}

    assert precisions(Reproduction.of(named, [0], defaults=machine)) == {"bfloat16"}
    assert precisions(Reproduction.of(TABLE, [0], defaults={"precision": "bfloat16"})) == {"bfloat16"}
    assert precisions(Reproduction.of(named, [0], fields=machine, defaults={})) == {"float32"}


def test_its_file_gives_it_back(tmp_path):
    made = Reproduction.of(TABLE, [0, 4], ["resnet-164", "wrn-28-10"], epochs=8, fields={"precision": "bfloat16"})
    claim_folder(tmp_path / "new", made)
    assert read_claim(Reproduction, tmp_path / "new") == made
    values = json.loads((tmp_path / "new" / "reproduction.json").read_text())
    assert (values["recipe"], list(values["rows"])) == ("table1", ["resnet-164", "wrn-28-10"])
    assert values["rows"]["resnet-164"]["setting"]["full_epochs"] == 164


def test_rows_methods_and_seeds_join_and_nothing_is_forgotten(tmp_path):
    claim_folder(tmp_path, Reproduction.of(TABLE, [0, 1], ["resnet-164"], ["baseline", "rrelu"]))
    joined = join_folder(tmp_path, Reproduction.of(TABLE, [5], ["resnet-164", "preresnet-164"], ["drop-activation"]))
    assert {name: (list(row.methods), row.seeds) for name, row in joined.rows.items()} == {
        "resnet-164": (["baseline", "rrelu", "drop-activation"], (0, 1, 5)),
        "preresnet-164": (["drop-activation"], (5,)),
    }


def test_a_row_has_one_setting(tmp_path):
    claim_folder(tmp_path, Reproduction.of(TABLE, [0], ["resnet-164"]))
    with pytest.raises(RecordError, match=r"epochs 164, asked for 8"):
        join_folder(tmp_path, Reproduction.of(TABLE, [0], ["resnet-164"], epochs=8))
    join_folder(tmp_path, Reproduction.of(TABLE, [0], ["wrn-28-10"], epochs=8))  # and is marked where it stands


def test_a_folder_has_one_recipe_and_figures_join_the_table_whose_runs_they_are(tmp_path):
    claim_folder(tmp_path, Reproduction.of(TABLE, [0]))
    with pytest.raises(RecordError, match="holds table1, asked for table2"):
        join_folder(tmp_path, Reproduction.of(recipe("table2"), [0]))
    figure = Reproduction.of(recipe("figure4"), [0, 1])
    assert figure.recipe == "table1"
    joined = join_folder(tmp_path, figure)
    assert list(joined.rows) == [row.name for row in TABLE.rows]
    assert joined.rows["resnet-164"].seeds == (0, 1)


def test_methods_are_taken_from_the_rows_that_have_them():
    made = Reproduction.of(TABLE, [0], methods=["rrelu"])
    assert list(made.rows) == ["resnet-164", "preresnet-164", "wrn-28-10"]
    with pytest.raises(ConfigError, match=r"rrelu in resnext-29-8x64d of table1, accepted: baseline, drop-activation"):
        Reproduction.of(TABLE, [0], ["resnext-29-8x64d"], ["rrelu"])


def test_seeds_stand_outermost_so_that_a_part_compares():
    configs = Reproduction.of(TABLE, [1, 0], ["resnet-164", "wrn-28-10"]).configs()
    assert [config.seed for config in configs] == [0] * 6 + [1] * 6
    assert [config.method for config in configs[:6]] == ["baseline", "rrelu", "drop-activation"] * 2
    assert [replace(config, seed=1) for config in configs[:6]] == configs[6:]


@pytest.mark.parametrize("seeds", [[], [0, 0], [-1]])
def test_seeds_that_are_none_are_refused(seeds):
    with pytest.raises(ConfigError, match="seed"):
        Reproduction.of(TABLE, seeds)
