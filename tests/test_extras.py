import sys
from pathlib import Path

import pytest

from llmsmc import InputError, LlmsmcError
from llmsmc.core.extras import optional
from llmsmc.errors import MissingExtraError


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"A plot needs .*pip install 'llmsmc\[plot\]'"):
        optional("matplotlib.pyplot", extra="plot", purpose="A plot")
    assert issubclass(MissingExtraError, ImportError) and issubclass(MissingExtraError, LlmsmcError)
    assert not issubclass(MissingExtraError, InputError)


def test_a_package_that_is_broken_is_not_called_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_package.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name") as caught:
        optional("broken_package", extra="plot", purpose="A plot")
    assert not isinstance(caught.value, MissingExtraError)
