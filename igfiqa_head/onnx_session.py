"""Opening ONNX files with onnxruntime."""

from __future__ import annotations

import contextlib
import difflib
import threading
import warnings
from collections.abc import Iterator, Sequence
from functools import cache, partial

import onnxruntime

from igfiqa_head.onnx_file import OnnxFile
from igfiqa_head.text import environment_number

PREFERRED_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""Those that :func:`open_session` takes by itself where they are available, in this order."""

MAX_PIXELS = 2**24
"""What a network may want at a time: 1,337 faces of 112 x 112."""

GIB_VARIABLE, SECONDS_VARIABLE = "IGFIQA_ONNX_GIB", "IGFIQA_ONNX_SECONDS"
"""Environment variables: the memory that the networks of a process may take on the CPU together (4 GiB if not
set), and the time that the first run of one may take (120 s)."""

_DEFAULTS = {GIB_VARIABLE: 4.0, SECONDS_VARIABLE: 120.0}
_BOUNDS = (1e-3, 1e6)
MAX_THREADS = 1024  # many more end the process where the system has no more to give
_SUFFIX = "ExecutionProvider"


def open_session(
    file: OnnxFile, providers: Sequence[str] | str | None = None, threads: int | None = None
) -> onnxruntime.InferenceSession:
    """An onnxruntime session of an ONNX file that was looked at, its warnings silenced.

    Warns if a provider that was named does not work on this machine and a later one takes its place.

    Raises:
        ValueError: onnxruntime cannot load the file, none of the providers works, or see
            :func:`available_providers` and :func:`session_options`.
    """
    chosen, options = available_providers(providers), session_options(threads)
    try:
        # With its fallback onnxruntime prints what went wrong and tries again.
        session = onnxruntime.InferenceSession(str(file.path), options, providers=chosen, enable_fallback=0)
        _read_texts(session)
    except Exception as error:  # onnxruntime's own exceptions share no other base
        raise ValueError(f"onnxruntime cannot load {file.path}: {reason_of(error)}") from error
    used = session.get_providers()[0]
    if providers and used != chosen[0]:
        problem = f"{chosen[0]} does not work on this machine"
        if used not in chosen:
            raise ValueError(f"{problem}; onnxruntime would take {used}: name that too to allow it")
        warnings.warn(f"{problem}: {used} is used", stacklevel=1)
    return session


def _read_texts(session: onnxruntime.InferenceSession) -> None:
    """``UnicodeDecodeError`` for names or metadata that are no UTF-8."""
    for item in (*session.get_inputs(), *session.get_outputs()):
        _ = item.name, item.shape
    _ = session.get_modelmeta().custom_metadata_map


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
    options.add_session_config_entry("session.load_model_format", "ONNX")  # the only one that was looked at
    _share_memory(_limit(GIB_VARIABLE))
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options


@cache
def _share_memory(gib: float) -> None:
    """Let the sessions of this process share memory of a limited size: a graph of few bytes may ask for any.

    onnxruntime sets no limit to the memory that a session has for itself on the CPU.
    """
    cpu = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    arena = onnxruntime.OrtArenaCfg({"max_mem": int(gib * 2**30)})
    onnxruntime.create_and_register_allocator(cpu, arena)


@contextlib.contextmanager
def first_run() -> Iterator[onnxruntime.RunOptions]:
    """Options of runs that are given up after a time: a loop in a graph need not end."""
    options = silent()
    timer = threading.Timer(_limit(SECONDS_VARIABLE), partial(setattr, options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()


def silent() -> onnxruntime.RunOptions:
    """Options of runs whose errors are raised, and not printed too."""
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    return options


def reason_of(error: Exception) -> str:
    """Why a network was not opened or run: the words of onnxruntime, or the limit that it met."""
    if "terminate flag" in str(error):
        seconds = _limit(SECONDS_VARIABLE)
        return f"it was given up after {seconds:g} s; set {SECONDS_VARIABLE}=SECONDS to wait longer"
    if isinstance(error, MemoryError) or "bfc_arena" in str(error):
        return (
            f"it wants more memory than there is, or more than {_limit(GIB_VARIABLE):g} GiB; set "
            f"{GIB_VARIABLE}=GIB to allow more"
        )
    return str(error)


def _limit(variable: str) -> float:
    return environment_number(variable, _DEFAULTS[variable], *_BOUNDS)
