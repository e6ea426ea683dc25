"""The results of a run: metrics.json, pictures, and the last lines of the log."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eval_tools.plots import plot_quality_sheet
from igfiqa_head.io.written_files import written_together
from trainer.evaluation import DISCARD_LIMIT, Judgement
from trainer.log import LOGGER, RunLog
from trainer.run_files import write_json
from trainer.weight_files import RECIPE, moment

ERC, SHEET = "erc.png", "quality_sheet.png"


def tell_recipe(description: Mapping[str, Any], output: Path, log: RunLog) -> None:
    """Write recipe.json, and the same to wherever the log goes."""
    write_json(description, output / RECIPE)
    log.text("recipe", f"```json\n{json.dumps(description, indent=2, default=str)}\n```")


def judgement_metrics(judgements: Mapping[str, Judgement]) -> dict[str, Any]:
    """The parts ``verification`` and ``erc`` of metrics.json."""
    return {
        "verification": {name: judgement.verification_metrics() for name, judgement in judgements.items()},
        "erc": {name: judgement.erc_metrics() for name, judgement in scored(judgements).items()},
    }


def scored(judgements: Mapping[str, Judgement]) -> dict[str, Judgement]:
    """Those with a quality: none of them without a quality head."""
    return {name: judgement for name, judgement in judgements.items() if judgement.qualities}


def write_results(
    metrics: Mapping[str, Any],
    judgements: Mapping[str, Judgement],
    output: Path,
    log: RunLog,
    step: int,
    plot_curves: Callable[[Mapping[str, Judgement], Path], None],
) -> None:
    """Write metrics.json and the pictures to the run's folder, and the same to wherever the log goes.

    Args:
        metrics: content of metrics.json.
        judgements: by test set; the faces of the first one are shown from bad to good.
        output: the run's folder, with the weights that were judged.
        log: the run's log.
        step: the last step.
        plot_curves: draws the curves of at least one judgement.
    """
    with_quality = scored(judgements)
    with written_together(output, moment(output)) as new:
        write_json(metrics, new / "metrics.json")
        if with_quality:
            plot_curves(with_quality, new / ERC)
            first = next(iter(with_quality.values()))
            plot_quality_sheet(first.test_set.images, first.quality, new / SHEET)
    log.scalars(step, _numbers(metrics, "final"))
    for name in (ERC, SHEET) if with_quality else ():
        log.picture(step, Path(name).stem, output / name)


def _numbers(metrics: Mapping[str, Any], name: str) -> dict[str, float]:
    """The numbers of a nested mapping by their paths; texts and what is not known are left out."""
    found: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{name}/{key}")
        elif isinstance(value, (int, float)) and math.isfinite(value):
            found[f"{name}/{key}"] = float(value)
    return found


def calibration_metadata(judgements: Mapping[str, Judgement], recogniser: str) -> dict[str, str]:
    """The calibration of an ONNX file's scores on the first test set, if there is one.

    Args:
        judgements: by test set.
        recogniser: what compared the pairs, for those who read it.
    """
    for name, judgement in scored(judgements).items():
        return {"calibration": judgement.calibration(name, recogniser).to_json()}
    return {}


def tell_of_exports(output: Path, errors: Mapping[str, float]) -> None:
    """Log which ONNX files were written, by their kinds, and their relative errors."""
    for kind, error in errors.items():
        LOGGER.info("wrote %s (relative error against torch %.1e)", output / f"{kind}.onnx", error)


def announce(metrics: Mapping[str, Any], output: Path) -> None:
    """Log the figures that a user wants to see at the end."""
    for name, result in metrics["verification"].items():
        LOGGER.info("%s: %s of %d pairs", name, verification_text(result), result["num_pairs"])
    for name, result in metrics["erc"].items():
        LOGGER.info(
            "%s: FNMR %.3f at FMR %.2g (asked for %g%s), %d genuine and %d impostor pairs",
            name, result["fnmr_at_0"], result["effective_fmr"], result["fmr"],
            "" if result["resolved"] else ", which so few impostor pairs cannot tell",
            result["n_genuine"], result["n_impostor"],
        )  # fmt: skip
        if result["fnmr_at_0"]:
            areas = ", ".join(f"{method} {area:.3f}" for method, area in result["area"].items())
            LOGGER.info(
                "%s: ERC area over that FNMR, lower is better: %s (without any use %g)",
                name, areas, DISCARD_LIMIT,
            )  # fmt: skip
        else:
            LOGGER.info("%s: no genuine pair fails there, so the curve tells nothing of the quality", name)
    for key in ("spearman_severity", "weight_low_variance", "weight_diverse"):
        if key in metrics:
            LOGGER.info("%s: %.3f", key, metrics[key])
    LOGGER.info("done; everything is in %s", output)


def verification_text(result: Mapping[str, Any]) -> str:
    """Accuracy, or for a set without folds the equal error rate, from ``verification.<target>``."""
    if "accuracy" in result:
        return f"verification accuracy {result['accuracy']:.4f} +- {result['accuracy_std']:.4f}"
    return f"equal error rate {result['eer']:.4f}"
