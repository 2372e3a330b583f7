"""One thread for a while."""

import pytest
import torch

from lit_prompt.functional import one_thread


@pytest.fixture(autouse=True)
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_one_inside_as_many_as_before_outside():
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_an_error_leaves_as_many_as_before():
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == 2


def test_a_function_may_be_called_again():
    @one_thread()
    def threads():
        return torch.get_num_threads()

    assert [threads(), torch.get_num_threads(), threads(), torch.get_num_threads()] == [1, 2, 1, 2]
