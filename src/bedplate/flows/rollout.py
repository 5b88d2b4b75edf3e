"""Change what a running machine serves, model by model: an engine that does not change keeps its process and its requests.

New requests to a model that leaves get 404 from the moment at which the front is reloaded, those to a model whose engine is
exchanged get 503 with Retry-After. The requests that run are finished, within a bound; then the engine ends and its memory
is free before another one is planned into it. What is killed on the way is completed by the next `bedplate serve prepare`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from bedplate.act import systemd
from bedplate.act.front_files import RELOAD, owe_front, settle_front
from bedplate.act.front_master import read_former_requests, reload_front
from bedplate.act.serving import (
    FRONT_UNIT,
    ServingChange,
    compare_serving,
    find_engines,
    is_front_written,
    remove_engines,
    start_serving,
    stop_engines,
    write_engines,
    write_front_texts,
)
from bedplate.flows.front_reload import find_ready
from bedplate.front.haproxy import MASTER_SOCKET, render_tokens
from bedplate.front.keys import FRONT_DIRECTORY
from bedplate.front.routes import backend_name
from bedplate.host.root.root import Root
from bedplate.model.progress import Progress
from bedplate.model.units import render_size
from bedplate.model.wording import plural

if TYPE_CHECKING:
    from bedplate.flows.serve import Serving

_LOOK_S = 0.2


def roll_out(
    root: Root, find: Callable[[], Serving], progress: Progress, *, drain_s: float, reload: bool = False
) -> Serving:
    """Make the engines and the front of this host what `find` says, and return that; only with the lock of serving held.

    reload: the front reads its files again though they are the same, since others that it reads have changed.

    Engines that leave or change end first, after at most drain_s for their requests; then find is asked again, since their
    memory is free now, and models may have come meanwhile. Raises CommandError when systemd or the front refuses.
    """
    while True:
        serving = find()
        change = compare_serving(root, serving.served)
        # One that runs and is not written: it was leaving when an earlier rollout was killed.
        unknown = set(find_engines()) - {*change.same, *change.changed, *change.gone}
        leaving = sorted({*change.gone, *change.changed, *unknown})
        if not leaving:
            break
        remove_engines(root, leaving)  # the supervisor looks away from here on, and nothing starts them again
        exchanged = {*change.changed, *change.new}
        _apply_front(root, serving, change, exchanged=exchanged, reload=reload)
        reload = False
        _drain(root, leaving, progress, drain_s=drain_s)
        held_bytes = stop_engines(leaving)
        progress.note(f"{', '.join(leaving)}: stopped; {render_size(held_bytes)} are free again")
    write_engines(root, serving.served)
    if change.new:
        systemd.reload_units()  # an instance may be loaded with the drop-in of before
    _apply_front(root, serving, change, reload=reload)
    start_serving([*change.new, *change.same])
    return serving


def _apply_front(
    root: Root, serving: Serving, change: ServingChange, *, exchanged: Collection[str] = (), reload: bool
) -> None:
    """Reload the front where its files changed; engines that stay the same need not make a token once more."""
    texts = serving.render_front(exchanged=exchanged)
    if is_front_written(root, texts) and not reload:
        return
    tokens = render_tokens(find_ready(root, change.same))
    write_front_texts(root, serving.render_front(exchanged=exchanged, tokens=tokens))
    owe_front(root.at(FRONT_DIRECTORY), (RELOAD,))  # all is written: whoever comes next can reload it
    if root.exists(MASTER_SOCKET):
        reload_front(root.at(MASTER_SOCKET))
    else:
        systemd.reload_or_restart((FRONT_UNIT,))
    # Only now: after a failure, or a kill, the next rollout finds that the reload is not done.
    write_front_texts(root, texts)
    settle_front(root.at(FRONT_DIRECTORY))


def _drain(root: Root, leaving: Sequence[str], progress: Progress, *, drain_s: float) -> None:
    """Wait until the front's former processes have no request of these engines any more; no longer than drain_s."""
    deadline = time.monotonic() + drain_s
    while True:
        requests = read_former_requests(root.at(MASTER_SOCKET)) or {}
        left = {name: count for name in leaving if (count := requests.get(backend_name(name), 0))}
        if not left:
            return
        shown = ", ".join(f"{name}: {plural(count, 'request')}" for name, count in left.items())
        if time.monotonic() >= deadline:
            progress.note(f"{shown}: still running after {drain_s:.0f} s, cut now")
            return
        progress.detail(f"waiting for {shown}")
        time.sleep(_LOOK_S)
