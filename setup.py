"""Packaging. The wheel ships ``igfiqa_head`` and ``eval_tools``; training runs from a clone."""

from pathlib import Path

from setuptools import find_packages, setup

train = [
    "torch>=2.4",
    "torchvision",
    "timm>=1.0.10",
    "easydict",
    "onnx>=1.16",
    "onnxscript",
    "onnxslim",
    "tensorboard",
    "scipy",
    "threadpoolctl",
]
insightface = ["insightface>=0.7.3"]
report = ["plotly>=5.18", "jinja2>=3.1"]
demo = ["gradio>=6.31"]
test = [
    *train,
    *insightface,
    *report,
    *demo,
    "selenium>=4.11",
    "setuptools",
    "pytest>=8",
    "hypothesis>=6",
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
    python_requires=">=3.10",
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
        "numpy>=1.24",
        "onnxruntime>=1.17",
        "opencv-python-headless>=4.8.1.78",  # earlier ones hold the libwebp of CVE-2023-4863
        "scikit-learn>=1.3",
        "matplotlib>=3.7",
        "tqdm>=4.65",
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
