"""Opening ONNX files with onnxruntime."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnxruntime

PREFERRED_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""Those that :func:`open_session` takes by itself where they are available, in this order."""

MAX_THREADS = 1024  # many more end the process where the system has no more to give
_SUFFIX = "ExecutionProvider"


def open_session(
    path: Path, providers: Sequence[str] | str | None = None, threads: int | None = None
) -> onnxruntime.InferenceSession:
    """An onnxruntime session of any ONNX file, its warnings silenced.

    Warns if a provider that was named does not work on this machine and a later one takes its place.

    Raises:
        ValueError: onnxruntime cannot load the file, none of the providers works, or see
            :func:`available_providers` and :func:`session_options`.
    """
    chosen, options = available_providers(providers), session_options(threads)
    try:
        # With its fallback onnxruntime prints what went wrong and tries again.
        session = onnxruntime.InferenceSession(str(path), options, providers=chosen, enable_fallback=0)
    except Exception as error:  # onnxruntime's own exceptions share no other base
        raise ValueError(f"onnxruntime cannot load {path}: {error}") from error
    used = session.get_providers()[0]
    if providers and used != chosen[0]:
        problem = f"{chosen[0]} does not work on this machine"
        if used not in chosen:
            raise ValueError(f"{problem}; onnxruntime would take {used}: name that too to allow it")
        warnings.warn(f"{problem}: {used} is used", stacklevel=1)
    return session


def available_providers(providers: Sequence[str] | str | None = None) -> list[str]:
    """Those of ``providers`` that are there, in the same order; None for the preferred ones that are there.

    Warns about the others. A name may be short and in any case: ``cuda`` is ``CUDAExecutionProvider``.

    Raises:
        ValueError: none is there, where onnxruntime itself would warn and take the CPU; or a short name that
            onnxruntime does not know.
    """
    available = onnxruntime.get_available_providers()
    if not providers:
        return [name for name in PREFERRED_PROVIDERS if name in available]
    named = [providers] if isinstance(providers, str) else providers
    wanted = dict.fromkeys(map(_full_name, named))
    chosen = [name for name in wanted if name in available]
    missing = ", ".join(name for name in wanted if name not in available)
    if not chosen:
        raise ValueError(f"onnxruntime has no {missing} here; it has {', '.join(available)}")
    if missing:
        # At one place with one text, so that many models give one warning.
        warnings.warn(f"onnxruntime has no {missing} here: {chosen[0]} is used", stacklevel=1)
    return chosen


def _full_name(name: str) -> str:
    """``CUDAExecutionProvider`` of ``cuda``, ``CUDA`` or itself."""
    known = {
        full.removesuffix(_SUFFIX).lower(): full
        for full in (*onnxruntime.get_all_providers(), *onnxruntime.get_available_providers())
    }
    key = name.lower().removesuffix(_SUFFIX.lower())
    if key not in known and not name.endswith(_SUFFIX):  # of another version of onnxruntime, perhaps
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {known[close[0]].removesuffix(_SUFFIX)}?" if close else ""
        raise ValueError(
            f"onnxruntime knows no provider {name!r}: expected names such as CUDA and CPU, in order of "
            f"preference{hint}"
        )
    return known.get(key, name)


def session_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """Options with so many threads within an operator, all cores for None.

    Raises:
        ValueError: ``threads`` is no integer from 1 to :data:`MAX_THREADS`.
    """
    if threads is not None and not (isinstance(threads, int) and 1 <= threads <= MAX_THREADS):
        raise ValueError(f"threads must be an integer from 1 to {MAX_THREADS}, got {threads!r}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    # Idle threads would spin and so take the cores from other networks and from decoding: with three networks
    # on two busy cores that made a run three times as long.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
