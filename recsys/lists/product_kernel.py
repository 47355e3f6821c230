"""Inner products of users and items, compiled: what a general product of matrices does, without laying the items out anew for each call.

Shapes: B users, N items, D dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add
from recsys.jit import compiled, compiled_sums

F32 = NDArray[np.float32]

_TOGETHER = 4
"""Users, and dimensions, that are read at once: so each number that is loaded takes part in four products."""
_CHUNK = 4_096
"""Items whose sums stay in the processor's nearest caches while all dimensions are added."""


@compiled
def write(users: F32, columns: F32, out: F32) -> None:
    """Write the inner products of `users` (B, D) and items, whose dimensions are `columns` (D, N), into `out` (B, N)."""
    n_users, (n_dimensions, n_items) = len(users), columns.shape
    together, whole = n_users - n_users % _TOGETHER, n_dimensions - n_dimensions % _TOGETHER
    for first in range(0, n_items, _CHUNK):
        last = min(first + _CHUNK, n_items)
        out[:, first:last] = 0
        for u in range(0, together, _TOGETHER):
            p, q, r, s = out[u, first:last], out[u + 1, first:last], out[u + 2, first:last], out[u + 3, first:last]
            for d in range(0, whole, _TOGETHER):
                a, b, c, e = columns[d, first:last], columns[d + 1, first:last], columns[d + 2, first:last], columns[d + 3, first:last]
                _add_four(p, q, r, s, a, b, c, e, users[u : u + _TOGETHER, d : d + _TOGETHER])
        for u in range(together, n_users):
            for d in range(0, whole, _TOGETHER):
                a, b, c, e = columns[d, first:last], columns[d + 1, first:last], columns[d + 2, first:last], columns[d + 3, first:last]
                _add_one(out[u, first:last], a, b, c, e, users[u, d : d + _TOGETHER])
        for u in range(n_users):
            for d in range(whole, n_dimensions):
                add(out[u, first:last], columns[d, first:last], users[u, d])


@compiled_sums
def _add_four(p: F32, q: F32, r: F32, s: F32, a: F32, b: F32, c: F32, d: F32, users: F32) -> None:
    """Add four dimensions of items (N,) to the sums of four users (N,), whose numbers are `users` (4, 4)."""
    pa, pb, pc, pd = users[0, 0], users[0, 1], users[0, 2], users[0, 3]
    qa, qb, qc, qd = users[1, 0], users[1, 1], users[1, 2], users[1, 3]
    ra, rb, rc, rd = users[2, 0], users[2, 1], users[2, 2], users[2, 3]
    sa, sb, sc, sd = users[3, 0], users[3, 1], users[3, 2], users[3, 3]
    for i in range(len(p)):
        w, x, y, z = a[i], b[i], c[i], d[i]
        p[i] += pa * w + pb * x + pc * y + pd * z
        q[i] += qa * w + qb * x + qc * y + qd * z
        r[i] += ra * w + rb * x + rc * y + rd * z
        s[i] += sa * w + sb * x + sc * y + sd * z


@compiled_sums
def _add_one(p: F32, a: F32, b: F32, c: F32, d: F32, user: F32) -> None:
    """Add four dimensions of items (N,) to the sums of one user (N,), whose numbers are `user` (4,)."""
    pa, pb, pc, pd = user[0], user[1], user[2], user[3]
    for i in range(len(p)):
        p[i] += pa * a[i] + pb * b[i] + pc * c[i] + pd * d[i]
