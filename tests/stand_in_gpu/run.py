#!/usr/bin/env python
"""Run Python as on a machine with a GPU where there is none: for tests of what only a GPU would see.

    python tests/stand_in_gpu/run.py -m pytest -m gpu tests
    python tests/stand_in_gpu/run.py tools/main.py --config configs/demo_scratch.yaml
    python tests/stand_in_gpu/run.py --host -m pytest -m gpu tests/engine/test_synchronisation.py

torch takes ``library.c`` for NVIDIA's libraries: there is one device, whose memory is the host's. What would be computed on
it is computed by the CPU's kernels (``startup/sitecustomize.py``), so that numbers are right, and tensors of different
devices in one operation are refused. With ``--host`` torch's own CUDA code runs instead, up to the launch of each kernel,
which does nothing: its checks of arguments and its alarm on synchronisation are real, numbers mean nothing. No figure of
speed can be had this way, and what Triton compiles for a GPU is compiled with ``--host`` and launched in name only.
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
    triton, lazy = packages / "triton/backends/nvidia", packages / "torch/lib/libcaffe2_nvrtc.so"
    includes = [triton / "include", *(Path(name) for name in glob.glob(f"{packages}/nvidia/*/include"))]
    headers = ("cuda.h", "cuda_runtime_api.h", "cublas_api.h", "cublasLt.h", "cudnn.h")
    missing = [name for name in headers if not _found(includes, name)] + [
        path.name for path in (lazy, triton / "driver.c") if not path.exists()
    ]
    if missing:
        raise RuntimeError(f"torch is no build for CUDA with NVIDIA's headers and Triton beside it: {missing} not found")
    # What torch and Triton only have to find returns 0, success.
    of_cublas = "".join(_found(includes, name)[0].read_text() for name in headers if name.startswith("cublas"))
    of_driver = lazy.read_bytes().decode("latin-1") + (triton / "driver.c").read_text()
    folder.mkdir(parents=True, exist_ok=True)
    flags = [f"-I{path}" for path in includes]
    for ours, target, pattern, text in (
        ("library.c", "stand_in.so", r"\bcublas\w+(?=\s*\()", of_cublas),
        ("driver.c", "libcuda.so.1", r"\bcu[A-Z]\w+", of_driver),
    ):
        known = (_HERE / ours).read_text()
        names = sorted({name for name in re.findall(pattern, text) if f"{name}(" not in known})
        stubs = folder / f"stubs_of_{ours}"
        stubs.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in names))
        _compile(folder / target, [*flags, str(_HERE / ours), str(stubs)])
    paths = [str(_HERE / "startup"), os.environ.get("PYTHONPATH", "")]
    kept = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    # Nothing that is compiled for the stand-in is to be found beside a GPU.
    caches = {name: str(folder / "compiled") for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")}
    return {
        **kept, **caches, "LD_PRELOAD": str(folder / "stand_in.so"), "LD_LIBRARY_PATH": str(folder),
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
