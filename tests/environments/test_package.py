"""Tests of what importing the room costs and registers."""

import subprocess
import sys


def test_importing_the_room_registers_its_environments_and_loads_no_torch():
    script = """
import sys
import gymnasium
import wm_pipeline.environments
assert {"wm_pipeline/Dream-v0", "wm_pipeline/Balance-v0"} <= gymnasium.registry.keys()
print(sorted({"torch", "pydantic"} & sys.modules.keys()))
"""
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
