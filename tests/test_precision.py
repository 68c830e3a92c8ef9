import torch

from codec.models.layers import precision


def test_fast_dtype_is_for_this_processor():
    assert precision.fast_dtype("cpu") in (torch.float32, torch.bfloat16)
    assert precision.fast_dtype("cuda") == torch.bfloat16
