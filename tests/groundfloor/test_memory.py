"""keep_freed: memory that was freed is used again without asking the system for its pages."""

import subprocess
import sys

import pytest

CODE = """
import ctypes, resource, sys
from groundfloor.pytorch import memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
if sys.argv[1] == "kept":
    memory.keep_freed()
size, faults = 64 * 2**20, []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    place = libc.malloc(size)
    ctypes.memset(place, 1, size)
    libc.free(place)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_pages_are_asked_for_once():
    faults = {}
    for way in ("kept", "usual"):
        words = [sys.executable, "-c", CODE, way]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        faults[way] = list(map(int, told.split()))
    if faults["usual"][2] < 10:  # musl, or another allocator
        pytest.skip("this system keeps freed memory anyway")
    assert faults["kept"][2] < faults["usual"][2] / 10
