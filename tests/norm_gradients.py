"""How normalizations of a sample are differentiated; tests/gradients.py has the other cases."""

from __future__ import annotations

from gradients import Case, normal

NORM_CASES = [
    *(
        Case(
            "layer_norm",
            normal(shape, shape[axis:], shape[axis:]),
            lambda backend, x, gamma, beta, axis=axis: backend.layer_norm(
                x, gamma, beta, axis=axis, epsilon=0.1
            ),
            lambda backend, dy, y, x, gamma, beta, axis=axis: backend.layer_norm_backward(
                dy, x, gamma, axis=axis, epsilon=0.1
            ),
            {"shape": shape, "axis": axis},
        )
        for shape, axis in [((9, 5), -1), ((2, 3, 2, 35), -1), ((3, 2, 4), 1), ((2, 3, 4, 5), -2)]
    ),
    *(
        Case(
            "group_norm",
            normal(shape, shape[-1:], shape[-1:]),
            lambda backend, x, gamma, beta, groups=groups: backend.group_norm(
                x, gamma, beta, groups=groups, epsilon=0.1
            ),
            lambda backend, dy, y, x, gamma, beta, groups=groups: backend.group_norm_backward(
                dy, x, gamma, groups=groups, epsilon=0.1
            ),
            {"shape": shape, "groups": groups},
        )
        for shape, groups in [((4, 6), 2), ((2, 5, 4, 6), 3), ((3, 4, 2, 5), 5), ((2, 3, 3, 9), 1)]
    ),
    *(
        Case(
            "local_response_norm",
            normal((2, 3, 2, 7)),
            lambda backend, x, options=options: backend.local_response_norm(x, **options),
            lambda backend, dy, y, x, options=options: [
                backend.local_response_norm_backward(dy, x, **options)
            ],
            options,
        )
        for options in [
            {"alpha": 0.9},
            {"size": 4, "alpha": 2.0, "beta": 0.5, "k": 0.7},
            {"size": 20, "alpha": 3.0, "beta": 1.4},
        ]
    ),
]
