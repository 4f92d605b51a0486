"""What the daemon does not load on its way to the first command: counted, not timed."""

import subprocess
import sys

LATER = {"gymnasium", "mujoco", "torch", "onnxruntime", "matplotlib", "rich", "typeguard", "onnx", "h5py"}


def test_run_loads_nothing_that_it_does_not_need(policy_folder, tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "firmware_bridge", "run", "--port", str(tmp_path / "none")]
    command += ["--policy", str(policy_folder), "--log", str(tmp_path), "--backend", "csr"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time")
    }
    assert "does not exist" in done.stderr  # it came as far as opening the port
    assert {"firmware_bridge", "hardware", "export", "numpy"} <= loaded
    assert not LATER & loaded
