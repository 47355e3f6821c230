"""Errors of the core.

CoreError
├── ShapeError     arrays whose axes do not fit together
│   └── TooFewInteractions   there is nothing to learn from
├── RuleError      a rule that cannot be read
├── ModelError     a model whose numbers or options cannot serve
└── LayoutError    packed bytes that are not what their header says
"""


class CoreError(Exception):
    """Base of everything `recsys` raises on purpose."""


class ShapeError(CoreError, ValueError):
    """Arrays whose axes do not fit together."""


class TooFewInteractions(ShapeError):
    """There is nothing to learn from; more events may change that."""


class RuleError(CoreError, ValueError):
    """A rule that is no sentence of the language, or that contradicts itself; the message says where and how to write it."""


class ModelError(CoreError, ValueError):
    """A model whose numbers, item ids or options cannot serve; the message names the part."""


class LayoutError(CoreError, ValueError):
    """Packed bytes that do not match the layout their header claims."""
