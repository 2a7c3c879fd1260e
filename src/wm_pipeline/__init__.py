"""World Models (Ha & Schmidhuber 2018, arXiv:1803.10122) as a Kedro pipeline."""

import os

from wm_pipeline.common.machine import instructions, vendor

__version__ = "0.1.0"

# torch's threads wait for each other by turning round, 300,000 times, which takes ms; in
# vain where another process has the core of one of them. Read when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# On an Intel processor without AVX-512 MKL rounds a row by how many are beside it, unless
# it is told to be strict; a dream must not depend on the others. Read at its first product.
if vendor() == "GenuineIntel" and "avx512f" not in instructions():
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
