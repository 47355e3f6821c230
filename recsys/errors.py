"""Errors of the core.

CoreError
├── ShapeError     arrays whose axes do not fit together
└── LayoutError    packed bytes that are not what their header says
"""


class CoreError(Exception):
    """Base of everything `recsys` raises on purpose."""


class ShapeError(CoreError, ValueError):
    """Arrays whose axes do not fit together."""


class LayoutError(CoreError, ValueError):
    """Packed bytes that do not match the layout their header claims."""
