"""Packaging. The wheel ships ``igfiqa_head`` and ``eval_tools``; training runs from a clone."""

from pathlib import Path

from setuptools import find_packages, setup

# The lowest versions are those that .ci/lowest_versions tests; all work with numpy 2. A stranger's file could
#   torch < 2.10        run code in spite of weights_only=True (CVE-2025-32434, CVE-2026-24747)
#   timm < 1.0.26       run code when named as local-dir:FOLDER
#   onnx < 1.21         read and write beside a model's folder (CVE-2026-27489)
#   onnxruntime < 1.24  read any file as the weights of a model
#   opencv < 4.12       write past the memory of an image (CVE-2025-53644)
opencv = ">=4.12.0.88"
train = [
    "torch>=2.10",
    "torchvision>=0.25",
    "timm>=1.0.26",
    "easydict>=1.10",
    "onnx>=1.21",
    "onnxscript>=0.5.7",
    "onnxslim>=0.1.78",
    "tensorboard>=2.18",
    "scipy>=1.13",
    "threadpoolctl>=3.2",
]
insightface = ["insightface>=0.7.3", f"opencv-python{opencv}"]  # it replaces the headless one
report = ["plotly>=5.18", "jinja2>=3.1.6"]
demo = ["gradio>=6.31", "fastapi>=0.115.2", "starlette>=1.0.1", "uvicorn>=0.30"]
test = [
    *train,
    *insightface,
    *report,
    *demo,
    "selenium>=4.11",
    "setuptools",
    "pytest>=8",
    "hypothesis>=6.100",
    "ruff>=0.6",
    "mypy>=1.11",
    "import-linter>=2.0",
]

setup(
    name="igfiqa-head",
    version="0.1.0",
    description="IG-FIQA face image quality: a head and loss for ArcFace recipes, and tools to judge it",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["igfiqa_head", "igfiqa_head.*", "eval_tools", "eval_tools.*"]),
    package_data={
        "igfiqa_head": ["py.typed"],
        "eval_tools": ["py.typed"],
        "eval_tools.report": ["page.*"],
    },
    entry_points={
        "console_scripts": ["igfiqa = igfiqa_head.cli:main", "igfiqa-eval = eval_tools.cli:main"],
    },
    install_requires=[
        "numpy>=2.0",
        "onnxruntime>=1.24.4",
        f"opencv-python-headless{opencv}",
        "scikit-learn>=1.5",
        "matplotlib>=3.9",
        "tqdm>=4.66.3",
    ],
    extras_require={
        "train": train,
        "insightface": insightface,
        "report": report,
        "demo": demo,
        "wandb": ["wandb"],
        "test": test,
    },
)
