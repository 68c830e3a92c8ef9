import pytest

from codec.atomic import atomic_path
from codec.errors import ExistsError


def test_success_and_failure(tmp_path):
    target = tmp_path / "file"
    with atomic_path(target, overwrite=False) as temporary:
        temporary.write_text("one")
        assert not target.exists()
    assert target.read_text() == "one"
    with pytest.raises(KeyboardInterrupt), atomic_path(target, overwrite=True) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "one"
    assert list(tmp_path.iterdir()) == [target]


def test_existing_files(tmp_path):
    target = tmp_path / "file"
    target.write_text("precious")
    with pytest.raises(ExistsError, match="-f"), atomic_path(target, overwrite=False):
        raise AssertionError("never entered")
    with atomic_path(target, overwrite=True) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    target = tmp_path / "file"
    with pytest.raises(ExistsError, match="meanwhile"), atomic_path(target, overwrite=False) as temporary:
        temporary.write_text("ours")
        target.write_text("theirs")
    assert target.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]
