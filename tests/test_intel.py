"""No telemetry of openvino and nncf: in a process of its own, since both look whether pytest is loaded."""

import subprocess
import sys

import pytest

_SCRIPT = """
import socket, sys, threading

def refuse(*args, **kwargs):
    raise AssertionError("network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from crosstune.intel import import_nncf, import_openvino
import_openvino("this test").Core()
import_nncf("this test")
assert "openvino_telemetry" not in sys.modules, "telemetry was imported"
assert threading.active_count() == 1, threading.enumerate()
import nncf.telemetry
print(type(nncf.telemetry.telemetry).__name__)
import openvino_telemetry  # can be imported by others afterwards
"""


def test_neither_package_loads_its_telemetry(tmp_path):
    pytest.importorskip("nncf")
    found = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, env={"HOME": str(tmp_path)}, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() in (["MagicMock"], ["type"])  # nncf's own stand-in for a missing package
    assert not (tmp_path / "intel").exists()  # where the client id would be kept
