import subprocess
import sys
from importlib import import_module

import pytest

from crosstune.errors import CrosstuneError
from crosstune.integrations.framework import MissingFrameworkError, framework

ADAPTERS = {
    "redisvl": ("redisvl", "crosstune[redis]"),
    "langchain": ("langchain_core", "langchain-core"),
    "llamaindex": ("llama_index", "llama-index-core"),
    "haystack": ("haystack", "haystack-ai"),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_missing_framework_is_named_with_its_remedy(adapter, monkeypatch):
    module, install = ADAPTERS[adapter]
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, f"crosstune.integrations.{adapter}", raising=False)
    with pytest.raises(MissingFrameworkError) as caught:
        import_module(f"crosstune.integrations.{adapter}")
    assert f'needs {module}, which is not installed; install it with: pip install "{install}"' in str(caught.value)
    assert isinstance(caught.value, CrosstuneError)
    assert isinstance(caught.value, ImportError)


def test_a_broken_framework_is_not_a_missing_one():
    with pytest.raises(ModuleNotFoundError, match="pydantic") as caught, framework("redisvl", "crosstune[redis]"):
        raise ModuleNotFoundError("No module named 'pydantic'", name="pydantic")
    assert not isinstance(caught.value, MissingFrameworkError)


def test_no_framework_is_imported_before_its_adapter():
    code = (
        "import sys, crosstune, crosstune.integrations, crosstune.integrations.ranking; "
        f"print(sorted({ {module for module, _ in ADAPTERS.values()} } & set(sys.modules)))"
    )
    assert _python(code).strip() == "[]"


def test_importing_all_adapters_reaches_for_no_network(tmp_path):
    # With every switch of the frameworks as it is for a user who has set none.
    code = (
        "import sys; seen = []; "
        "sys.addaudithook(lambda event, args: seen.append(event) if event.startswith('socket.') else None); "
        + "".join(f"import crosstune.integrations.{adapter}; " for adapter in ADAPTERS)
        + "import time; time.sleep(1); "
        "print(sorted({e for e in seen if e in ('socket.connect', 'socket.getaddrinfo', 'socket.sendto')}))"
    )
    assert _python(code, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}).strip() == "[]"


def _python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options).stdout
