"""The number of threads follows what the process may use, not what the machine has."""

from __future__ import annotations

import os
import warnings

import pytest

from elmo_runtime.embedder import Embedder
from elmo_runtime.options import CpuOptions
from elmo_runtime.processors import cpu_quota, usable_cpus

V2 = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}
V2_IN_A_PARENT = {
    "proc/self/cgroup": "0::/user.slice/job\n",
    "sys/fs/cgroup/user.slice/job/cpu.max": "max 100000\n",
    "sys/fs/cgroup/user.slice/cpu.max": "400000 100000\n",
}
V1 = {
    "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/docker/1f\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
}
V1_NO_LIMIT = {
    "proc/self/cgroup": "1:cpu:/\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}
DAMAGED = {"proc/self/cgroup": "0::/\nnonsense\n", "sys/fs/cgroup/cpu.max": "many of them\n"}


def tree(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [(V2, 1.5), (V2_IN_A_PARENT, 4), (V1, 2), (V1_NO_LIMIT, None), (DAMAGED, None), ({}, None)],
)
def test_the_quota_of_a_control_group_is_read(tmp_path, files, quota):
    assert cpu_quota(tree(tmp_path, files)) == quota


def test_the_default_follows_the_quota(tmp_path):
    """In a container with a quota of 2 CPUs on a large machine, one thread per core started."""
    tiny = {**V2, "sys/fs/cgroup/cpu.max": "50000 100000\n"}
    assert usable_cpus(tree(tmp_path, tiny)) == 1
    assert usable_cpus(tmp_path / "none") <= (os.cpu_count() or 1)


def test_more_threads_than_cpus_warn(bundle):
    """Fewer threads reduced 11 s to 2 s, and no warning said so."""
    many = usable_cpus() + 1
    with pytest.warns(RuntimeWarning, match=f"threads is {many}, but this process may use"):
        Embedder.load(
            bundle, backend="onnxruntime-cpu", cpu=CpuOptions(threads=many, spinning=False)
        ).close()


def test_as_many_threads_as_cpus_do_not_warn(bundle):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Embedder.load(
            bundle, backend="onnxruntime-cpu", cpu=CpuOptions(threads=usable_cpus())
        ).close()
