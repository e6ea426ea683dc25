"""Opening ONNX files with onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime

PREFERRED_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""Those that :func:`open_session` takes by itself where they are available, in this order."""


def open_session(
    path: Path, providers: Sequence[str] | str | None = None, threads: int | None = None
) -> onnxruntime.InferenceSession:
    """An onnxruntime session of any ONNX file, its warnings silenced.

    Raises:
        ValueError: onnxruntime cannot load the file, or see :func:`available_providers` and
            :func:`session_options`.
    """
    chosen, options = available_providers(providers), session_options(threads)
    try:
        # With its fallback onnxruntime prints what went wrong and tries again.
        session = onnxruntime.InferenceSession(str(path), options, providers=chosen, enable_fallback=0)
    except Exception as error:  # onnxruntime's own exceptions share no other base
        raise ValueError(f"onnxruntime cannot load {path}: {error}") from error
    if providers and session.get_providers()[0] != chosen[0]:
        raise ValueError(f"{chosen[0]} does not work on this machine; onnxruntime would take the CPU")
    return session


def available_providers(providers: Sequence[str] | str | None = None) -> list[str]:
    """``providers``, one or several, or the preferred ones that are there.

    Raises:
        ValueError: one is not available; onnxruntime itself would warn and take the CPU.
    """
    available = onnxruntime.get_available_providers()
    named = [providers] if isinstance(providers, str) else list(providers or ())
    missing = [name for name in named if name not in available]
    if missing:
        raise ValueError(
            f"onnxruntime has no {', '.join(map(str, missing))} here; it has {', '.join(available)}"
        )
    return named or [name for name in PREFERRED_PROVIDERS if name in available]


def session_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """Options with so many threads within an operator, all cores for None.

    Raises:
        ValueError: ``threads`` is no integer or below 1.
    """
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ValueError(f"threads must be an integer of at least 1, got {threads!r}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    # Idle threads would spin and so take the cores from other networks and from decoding: with three networks
    # on two busy cores that made a run three times as long.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
