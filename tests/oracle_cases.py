"""Models, batches and the oracle's outputs, in the shapes of the graphs' outputs."""

from __future__ import annotations

import numpy as np

import oracle

BATCHES = [  # the second continues the states of the first
    [["The", "naïve", "日本語", "x" * 60, ""], [], ["<S>", "a"], [""]],
    [["again"], ["Ein", "Satz", "mehr"], [], ["é" * 30, "🙂", "</S>"]],
]
MODELS = {
    "published structure": {},
    "no skip": {"use_skip_connections": False},
    "one layer": {"n_layers": 1},
    "three layers": {"n_layers": 3},
    "three layers, no skip": {"n_layers": 3, "use_skip_connections": False},
    "tanh": {"activation": "tanh"},
    "no clips": {"cell_clip": None, "proj_clip": None},
    "no highway": {"n_highway": 0},
    "filters in no order, short words": {
        "filters": ((5, 3), (1, 2)),
        "max_characters_per_token": 12,
    },
}
MIX_WEIGHTS, GAMMA = np.array([[0.3, -1.0, 0.8, 0.1], [0.0, 2.0, 0.5, -0.5]]), np.array([1.5, -0.4])


def expected_outputs(model, batches):
    """The oracle's outputs for the last batch, in the shapes of the graphs."""
    config = model.lstm
    states = [oracle.State() for _ in batches[0]]
    for batch in batches:
        found = [
            model.embed(sentence, state) for sentence, state in zip(batch, states, strict=True)
        ]
    length = max(map(len, batches[-1]))
    layers = [np.pad(one, [(0, 0), (0, length - one.shape[1]), (0, 0)]) for one in found]
    outputs = {"word_emb": [one[0, :, : config["projection_dim"]] for one in layers]}
    for number in range(1, config["n_layers"] + 1):
        outputs[f"lstm_outputs{number}"] = [one[number] for one in layers]
    mixes = [
        (weights[: config["n_layers"] + 1], gamma)
        for weights, gamma in zip(MIX_WEIGHTS, GAMMA, strict=True)
    ]
    outputs["elmo"] = [[oracle.mix(one, *of) for one in layers] for of in mixes]
    outputs["default"] = [[oracle.pooled(oracle.mix(one, *of)) for one in found] for of in mixes]
    keys = [[(side, depth) for side in (0, 1)] for depth in range(config["n_layers"])]
    outputs["final_h"] = [[[state.h[key] for state in states] for key in row] for row in keys]
    outputs["final_c"] = [[[state.c[key] for state in states] for key in row] for row in keys]
    return {name: np.array(value) for name, value in outputs.items()}


def largest_difference(found, expected):
    assert found.keys() == expected.keys()
    assert all(found[name].shape == expected[name].shape for name in expected)
    return max(np.abs(found[name] - expected[name]).max() for name in expected)
