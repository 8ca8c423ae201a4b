"""Installation: ``pip install .``, or ``make demo`` for a first look."""
import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (here / "torchreid_nas" / "__init__.py").read_text())[1]

export = ["onnx", "onnxscript", "onnxruntime"]

setup(
    name="torchreid-nas",
    version=version,
    description="Neural architecture search and cross-modality re-identification as a plug-in for torchreid",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["torchreid_nas", "torchreid_nas.*"]),
    py_modules=["torchreid_nas_command"],
    package_data={"torchreid_nas.hub": ["entries/*.yaml"]},
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "torchreid>=0.2.5",
        "yacs",
        "PyYAML",
        "gdown",
        "tabulate",
        "tqdm",
        "numpy",
        "Pillow",
        "filelock",
        "scipy",
        "matplotlib",
        # torchreid 0.2.5 imports these and declares none of them.
        "opencv-python-headless",
        "tensorboard",
        "h5py",
        "imageio",
        "six",
    ],
    extras_require={
        "export": export,
        "test": ["pytest", "pytest-xdist", *export],
        "dev": ["pytest", "pytest-xdist", "ruff", *export],
    },
    entry_points={"console_scripts": ["torchreid-nas = torchreid_nas_command:main"]},
)
