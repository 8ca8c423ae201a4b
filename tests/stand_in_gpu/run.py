#!/usr/bin/env python
"""Run Python as on a machine with a GPU where there is none: for tests of what only a GPU would see.

    python tests/stand_in_gpu/run.py -m pytest -m gpu tests
    python tests/stand_in_gpu/run.py tools/main.py --config configs/demo.yaml
    python tests/stand_in_gpu/run.py --host -m pytest -m gpu tests/engine/test_synchronisation.py

torch takes ``library.c`` for NVIDIA's libraries: there is one device, whose memory is the host's. What would be computed on
it is computed by the CPU's kernels (``startup/sitecustomize.py``), so that numbers are right, and tensors of different
devices in one operation are refused. With ``--host`` torch's own CUDA code runs instead, up to the launch of each kernel,
which does nothing: its checks of arguments and its alarm on synchronisation are real, numbers mean nothing. No figure of
speed, and nothing that Triton compiles, can be had this way.
"""
from __future__ import annotations

import glob
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def environment(folder: Path, host: bool = False) -> dict[str, str]:
    """Build the stand-in in a folder and return the environment variables of a process that takes it for a GPU.

    Raises:
        RuntimeError: it cannot be built here.
    """
    packages = Path(sysconfig.get_paths()["platlib"])
    # The runtime's headers of NVIDIA's package lack a part that Triton's copy has.
    includes = [packages / "triton/backends/nvidia/include", *(Path(name) for name in glob.glob(f"{packages}/nvidia/*/include"))]
    lazy = packages / "torch/lib/libcaffe2_nvrtc.so"
    missing = [name for name in ("cuda_runtime_api.h", "cublas_api.h", "cublasLt.h", "cudnn.h") if not _found(includes, name)]
    if missing or not lazy.exists():
        raise RuntimeError(f"torch is no build for CUDA with NVIDIA's headers beside it: {missing or lazy.name}")
    source = (_HERE / "library.c").read_text()
    headers = "".join(_found(includes, name)[0].read_text() for name in ("cublas_api.h", "cublasLt.h"))
    # What torch only has to find returns 0, success.
    products = {name for name in re.findall(r"\b(cublas\w+)\s*\(", headers) if f"{name}(" not in source}
    driver = {name.decode() for name in re.findall(rb"\0(cu[A-Z]\w+)(?=\0)", lazy.read_bytes())}
    folder.mkdir(parents=True, exist_ok=True)
    for file, names in (("products.c", products), ("driver.c", driver)):
        (folder / file).write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in sorted(names)))
    flags = [f"-I{path}" for path in includes]
    _compile(folder / "stand_in.so", [*flags, str(_HERE / "library.c"), str(folder / "products.c")])
    _compile(folder / "libcuda.so.1", [str(folder / "driver.c")])
    paths = [str(_HERE / "startup"), os.environ.get("PYTHONPATH", "")]
    kept = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return {
        **kept, "LD_PRELOAD": str(folder / "stand_in.so"), "LD_LIBRARY_PATH": str(folder),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)), **({"STAND_IN_LAUNCHES": "1"} if host else {}),
    }


def _found(folders: list[Path], name: str) -> list[Path]:
    return [folder / name for folder in folders if (folder / name).exists()]


def _compile(target: Path, arguments: list[str]) -> None:
    command = [os.environ.get("CC", "cc"), "-O1", "-w", "-shared", "-fPIC", "-o", str(target), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise RuntimeError(f"no C compiler: {error}") from error
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")


def main() -> int:
    host = "--host" in sys.argv[1:2]
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.call([sys.executable, *sys.argv[1 + host:]], env=environment(Path(folder), host))


if __name__ == "__main__":
    sys.exit(main())
