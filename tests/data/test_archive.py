"""Files of data that nobody vouches for: what they claim is checked before memory is taken, and every bit counts."""

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from flatlab.data import Dirichlet, Fixed, Source, load
from flatlab.data.reading import read
from flatlab.declare import SettingError
from flatlab.files import write_atomically
from flatlab.training import Experiment


def header(shape, kind="|u1"):
    """An npy header alone."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def archive(path, toy, compression=zipfile.ZIP_DEFLATED, **changed):
    """The toy data set with some members' bytes changed."""
    toy.save(path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()} | {f"{k}.npy": v for k, v in changed.items()}
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in members.items():
            new.writestr(name, content)
    return path


@pytest.mark.parametrize("kind", ["|u1", "<U1000000"])
def test_a_header_that_claims_too_much_takes_no_memory(tmp_path, toy, kind):
    path = archive(tmp_path / "toy.npz", toy, train_images=header((10**12,), kind) + b"\0" * 1000)
    tracemalloc.start()
    with pytest.raises(SettingError, match=r"toy\.npz: train_images: cannot .* header claims shape \(1000000000000,\)"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_a_zip_bomb_takes_no_memory(tmp_path, toy, monkeypatch):
    """Zeros in a thousandth of their size, honestly declared; 30 MB here, from which on 1 GiB is suspected else."""
    monkeypatch.setattr("flatlab.data.archive.LARGE", 2**20)
    path = archive(tmp_path / "toy.npz", toy, test_images=header((30_000_000,)) + bytes(30_000_000))
    tracemalloc.start()
    with pytest.raises(SettingError, match=r"toy\.npz: test_images: .*claims 30,000,000 bytes, which a file of"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_no_flipped_bit_of_an_npz_gives_other_images(tmp_path, toy, compression):
    path = archive(tmp_path / "toy.npz", toy, compression)
    whole, wanted = path.read_bytes(), read(path).fingerprint
    random, refused = np.random.default_rng(0), 0
    for bit in random.choice(8 * len(whole), 150, replace=False):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        try:
            assert read(path).fingerprint == wanted, bit
        except SettingError as error:
            refused += "toy.npz: " in str(error)
    assert refused > 75


def test_a_key_whose_name_is_altered_is_not_passed_over(tmp_path, toy):
    """An optional array would silently be missing, and other constants be taken."""
    path = toy.save(tmp_path / "toy.npz")
    content = bytearray(path.read_bytes())
    content[content.rindex(b"mean.npy")] ^= 1
    path.write_bytes(content)
    with pytest.raises(SettingError, match=r"toy\.npz: lean: cannot be read"):
        read(path)


def test_no_flipped_bit_of_a_partition_gives_others(tmp_path, toy):
    data = toy.federate(Dirichlet(alpha=0.3), clients=5)
    path = data.save_partition(tmp_path / "split.json")
    whole, random, refused = path.read_bytes(), np.random.default_rng(0), 0
    for bit in random.choice(8 * len(whole), 150, replace=False):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        try:
            assert toy.federate(Fixed(path=str(path))).fingerprint == data.fingerprint, bit
        except SettingError as error:
            refused += "split.json" in str(error)
    assert refused > 50


def test_a_partition_from_before_checksums_is_read(tmp_path, toy):
    data = toy.federate(Dirichlet(alpha=0.3), clients=5)
    path = data.save_partition(tmp_path / "split.json")
    old = json.loads(path.read_text())
    del old["digest"], old["format"]
    path.write_text("\ufeff" + json.dumps(old))  # and with the mark that some editors put first
    assert toy.federate(Fixed(path=str(path))).fingerprint == data.fingerprint


def test_a_tilde_is_the_home_directory_wherever_a_path_is_given(tmp_path, toy, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    toy.save("~/sets/toy.npz")
    data = load("toy", root="~/sets").federate("iid", clients=3)
    data.save_partition("~/split.json")
    spec = load("toy", "~/sets").federate(Fixed(path="~/split.json")).spec
    assert spec.partition.path == "~/split.json"  # a record must not name this machine's folders
    assert spec.load("~/sets").fingerprint == data.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    with pytest.raises(SettingError, match="root = 3"):
        load("toy", root=3)


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\ufeffrounds = 'three'", r"rounds = 'three'"),  # the mark is no part of the text
        ('[data]\nname = "C:\\Users\\me"', r"not valid TOML: .*write / for \\, or put it in single quotes"),
        (f"rounds = {DEEP}", "not valid TOML: nested too deeply"),
        ("rounds = \x1b[31m", "not valid TOML"),
    ],
)
def test_toml_is_read_or_refused_in_one_sentence(tmp_path, text, said):
    path = tmp_path / "experiment.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingError, match=said):
        Experiment.from_file(path)


def test_deep_json_is_refused_in_one_sentence(tmp_path, toy):
    with pytest.raises(SettingError, match="Experiment: not valid JSON: nested too deeply"):
        Experiment.from_json(DEEP)
    write_atomically(tmp_path / "split.json", DEEP.encode())
    with pytest.raises(SettingError, match=r"split.json': .*nested too deeply"):
        toy.federate(Fixed(path=str(tmp_path / "split.json")))


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    for content in (b"", b"PK", b"\x93NUMPY", b"\0" * 1000):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(SettingError, match=r"x\.npz: the archive: cannot be read"):
            read(tmp_path / "x.npz")
    assert isinstance(load("digits"), Source)
