"""What was measured is never lost because it cannot be kept, and a file that holds something else is never believed."""

import errno
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

from flatlab.files import Damaged
from flatlab.geometry import Landscape, landscape
from flatlab.results import Result

torch.manual_seed(0)
DATA = (torch.randn(40, 1, 4, 4), torch.randint(0, 3, (40,)))


def network():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))


def measured(file, **options):
    return landscape(network(), DATA, points=5, store=file, **options)


@pytest.mark.parametrize("flips", [20, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:.*kept as")
def test_no_flipped_bit_of_a_landscape_gives_others(tmp_path, flips):
    file = tmp_path / "plane.parquet"
    whole, content = measured(file), file.read_bytes()
    for bit in np.random.default_rng(0).choice(8 * len(content), flips, replace=False):
        altered = bytearray(content)
        altered[bit // 8] ^= 1 << bit % 8
        file.write_bytes(altered)
        assert_frame_equal(measured(file).frame, whole.frame, check_exact=True)


@pytest.mark.parametrize("harm", [b"", b"PAR1", b"\0" * 5000, "half"])
def test_a_damaged_file_is_set_aside_and_measured_again(tmp_path, harm):
    file = tmp_path / "plane.parquet"
    whole, content = measured(file), file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if harm == "half" else harm)
    with pytest.raises(Damaged, match=r"not a whole parquet file|checksum"):
        Landscape.load(file)
    with pytest.warns(UserWarning, match=r"plane\.damaged, and measured again"):
        assert_frame_equal(measured(file).frame, whole.frame, check_exact=True)
    assert (tmp_path / "plane.damaged").exists()
    measured(file, progress=lambda *_: pytest.fail("measured again"))


def test_what_cannot_be_kept_is_returned_and_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match=r"Not a directory.*not kept"):
        found = measured(tmp_path / "file" / "plane.parquet")
    assert found.about["complete"]
    full = mock.patch("flatlab.results.write_atomically", side_effect=OSError(errno.ENOSPC, "No space left on device"))
    with full, pytest.warns(UserWarning, match="No space left on device"):
        assert_frame_equal(measured(tmp_path / "plane.parquet").frame, found.frame, check_exact=True)


def test_what_cannot_be_read_is_measured_again_and_left(tmp_path):
    file = tmp_path / "plane.parquet"
    file.mkdir()
    with pytest.warns(UserWarning, match="cannot be read .*; measured again, and not kept"):
        assert measured(file).about["complete"]
    assert file.is_dir() and [path.name for path in tmp_path.iterdir()] == ["plane.parquet"]


def test_a_result_from_before_checksums_is_read(tmp_path):
    frame = pd.DataFrame({"x": [1.0, np.nan], "name": ["a", "b"]})
    file = Result(frame, {"what": "a test"}).save(tmp_path / "old.parquet")
    table = pd.read_parquet(file)
    assert_frame_equal(table, frame)
    content = file.read_bytes()
    start = content.rindex(b"flatlab-digest:")
    file.write_bytes(content[:start] + b"flatlab-nothing" + content[start + 15 :])
    assert_frame_equal(Result.load(file).frame, frame)
    assert Result.load(file).about == {"what": "a test"}
