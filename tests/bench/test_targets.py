"""Which targets a table has, and what meets them; the record is one that `dropact bench` could have written."""

from script import script

targets = script("targets")
OURS = {"relu": 1.0, "rrelu": 5.5, "mask_arithmetic": 6.5, "drop_activation": 1.1, "randomized_relu": 1.3}


def table(times, part="both", *, mode="eager", dtype="float32", shape=targets.LARGE, kept=None):
    rows = [
        {
            "name": name,
            "label": name,
            "figures": {part: {"microseconds": 1e6 * value, "ratio": value}},
            "kept": kept,
        }
        for name, value in times.items()
    ]
    return {"mode": mode, "dtype": dtype, "shape": shape, "rows": rows}


def found(name, times, part="both", device="cpu", **about):
    said = targets.verdicts(table(times, part, **about), device)
    return [(round(value, 4), met) for says, value, met in said if says.startswith(f"{name}: ")]


def test_of_an_operation():
    assert found("drop_activation", OURS) == [(1.1, True), (5.0, True), (5.9091, False)]
    assert found("drop_activation", OURS, dtype="bfloat16") == [(1.1, False), (5.0, False), (5.9091, False)]
    assert found("drop_activation", OURS, dtype="bfloat16", shape=targets.SMALL)[0] == (1.1, True)
    assert found("randomized_relu", OURS) == [(1.3, True)]
    assert found("drop_activation", OURS, mode="compiled") == []
    assert found("drop_activation", OURS, shape=[2, 3]) == []
    assert found("drop_activation", {"relu": 1.0, "drop_activation": 2.0}) == [(2.0, False)]


def test_of_a_step():
    times = {"relu": 1.0, "drop_activation": 1.03}
    assert found("drop_activation", times, "step") == [(1.03, False)]
    assert found("drop_activation", times, "step", mode="compiled") == [(1.03, True)]
    assert found("drop_activation", {"relu": 1.0, "drop_activation": 1.1}, "step", "cuda", mode="compiled") == [
        (1.1, False)
    ]


def test_of_memory():
    def kept(name, of_input, of_output):
        of = {"input": of_input, "output": of_output, "more": 0.0}
        return found(name, {name: 1.0}, shape=[2, 3], kept=of)

    assert kept("drop_activation", 0.0, 4.0) == [(0.0, True)]
    assert kept("drop_activation", 4.0, 0.0) == [(4.0, False)]
    assert kept("drop_activation_gelu", 4.0, 0.0) == [(0.0, True)]
    assert kept("drop_activation_gelu", 4.0, 4.0) == [(4.0, False)]
    assert kept("mask_arithmetic", 0.0, 0.0) == []


def test_on_a_gpu():
    times = {"relu": 1.0, "gelu": 2.0, "copy": 0.8, "drop_activation": 1.1, "drop_activation_gelu": 2.1}
    about = {"device": "cuda", "shape": targets.MEBI_64}
    assert found("drop_activation", times, **about) == [(1.1, False), (0.9091, True)]
    assert found("drop_activation_gelu", times, **about) == [(1.05, True), (0.4762, False)]
    assert found("drop_activation", times, **about | {"shape": [2**24]}) == []
