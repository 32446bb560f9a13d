"""Where libraries keep what they compile and what code they fetch: on the node itself, not on a disk that all share.

A hundred jobs that compile at once would write the same files on a shared disk, and some of those cannot lock.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Environment variables that they read, each with its folder.
_CACHES = {
    "VLLM_CACHE_ROOT": "vllm",
    "VLLM_CONFIG_ROOT": "vllm-config",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "CUDA_CACHE_PATH": "cuda",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "DG_JIT_CACHE_DIR": "deep-gemm",
    "TILELANG_CACHE_DIR": "tilelang",
    # Code that comes with a model, where the config lets it run.
    "HF_MODULES_CACHE": "hf-modules",
}


def use_local_caches() -> None:
    """Sets them for this process and those that it starts, before the libraries are imported; what is set stays.

    They are under TMPDIR, in a folder of the user's own that jobs to come on this node find again.
    """
    folder = _local_folder()
    for name, place in _CACHES.items():
        os.environ.setdefault(name, str(folder / place))


def _local_folder() -> Path:
    """A folder for caches on this machine that belongs to this user."""
    folder = Path(tempfile.gettempdir()) / f"corpusmith-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
        # Somebody else has taken the name: code from there must not run.
        return Path(tempfile.mkdtemp(prefix="corpusmith-"))
    return folder
