"""Films: a picture a round, of one size, in a file that others read; clients that pull end where the next model is."""

import io

import numpy as np
import pytest
from PIL import Image

import flatlab as fl
from flatlab.figures import draw, film, formats, pictures_of, pull_panels
from flatlab.figures.films import MOST, PARTS
from flatlab.figures.pulls import draw_pull

MODEL = fl.ModelSpec(name="lenet", width=0.125)


@pytest.fixture(scope="module")
def run(few_digits, tmp_path_factory):
    return fl.train(fl.FedAvg(lr=0.05), few_digits, MODEL, 3, store=tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture(scope="module")
def found(run):
    return fl.pulls(run, rounds=2, limit=40)


def test_a_gif_has_a_picture_a_round_and_begins_again_if_it_is_to(run, tmp_path):
    path = fl.animate(run, tmp_path / "curves.gif", speed=4, metrics=["loss"])
    with Image.open(path) as image:
        assert (image.n_frames, image.info["loop"], image.info["duration"]) == (3, 0, 250)
        sizes = []
        for place in range(3):
            image.seek(place)
            sizes.append(image.size)
        assert len(set(sizes)) == 1 and image.info["duration"] == 1000  # the last stays
    once = fl.animate(run, tmp_path / "clients.gif", loop=False, view="clients")
    with Image.open(once) as image:
        assert "loop" not in image.info and image.n_frames == 3


def test_a_film_lasts_as_long_as_its_speed_says():
    class Dot:
        def __init__(self, place):
            self.place = place

        def png(self, dpi):
            out = io.BytesIO()
            Image.new("RGB", (8, 8), (7 * self.place, 0, 0)).save(out, "PNG")
            return out.getvalue()

    # Hundredths of a second are all that a GIF can say, and what is shorter than two is shown for ten.
    for speed, count, each in ((8.0, 16, 125), (30.0, 30, 1000 / 30), (120.0, 31, 25)):
        with Image.open(io.BytesIO(film(map(Dot, range(count)), "gif", speed))) as image:
            held, red = [], []
            for place in range(image.n_frames):
                image.seek(place)
                held.append(image.info["duration"])
                red.append(image.convert("RGB").getpixel((0, 0))[0])
        assert min(held) >= 20 and held[-1] == 1000 and red[-1] == 7 * (count - 1)
        assert sum(held[:-1]) == pytest.approx(each * (len(held) - 1), abs=10)
        assert len(held) == -(-count // round(each * speed / 1000))


def test_each_picture_is_that_of_its_round(run):
    pictures, pace = pictures_of([run], metrics=["loss"])
    assert pace == 1 and len(pictures) == 3
    assert pictures[1]().png() == draw(run, at=2, metrics=["loss"]).png()


def test_arrows_end_at_the_clients_then_in_their_mean_and_the_star_at_the_next_model(found):
    (panel,) = pull_panels(found)
    assert [one["round"] for one in panel["rounds"]] == [2, 3]
    own = found.frame[(found.frame["round"] == 3) & (found.frame["series"] == "client")]
    for share, expected in (
        (0.4, own[["x", "y"]].to_numpy()),
        (0.85, [[panel["rounds"][1]["mean"][at] for at in "xy"]] * len(own)),
    ):
        (axis,) = draw_pull(found, 1 + share).axes
        assert np.allclose([arrow.xy for arrow in axis.texts if arrow.arrowprops], expected)
    stars = [line.get_xydata()[0] for line in draw_pull(found, 2.0).axes[0].lines if line.get_marker() == "*"]
    after = found.frame[(found.frame["round"] == 3) & (found.frame["series"] == "global")]
    assert np.allclose(stars[-1], after[["x", "y"]].to_numpy()[0])
    pictures, pace = pictures_of(found)
    assert len(pictures) == 2 * PARTS and pace == PARTS


def test_a_way_grows_and_what_does_not_move_or_has_another_name_is_refused(run, tmp_path):
    way = fl.landscape(run, directions="pca", points=3, limit=20, store=False)
    pictures, _ = pictures_of(way)
    assert len(pictures) == len(run.checkpoints)
    clients, _ = pictures_of(fl.landscape(run, points=3, limit=20, clients=[1, 3], store=False))
    assert len(clients) == 2  # a picture a round
    for thing, path, said in (
        (run, "curves.png", "ends in .gif"),
        (fl.landscape(run, points=3, limit=20, clients=2, store=False), "plane.gif", "nothing of it changes"),
    ):
        with pytest.raises(fl.SettingError, match=said):
            fl.animate(thing, tmp_path / path)
    assert not list(tmp_path.iterdir())


def test_of_very_many_rounds_some_are_left_out_and_the_last_is_not(run, monkeypatch):
    monkeypatch.setattr("flatlab.figures.films._steps", lambda *_: [lambda k=k: k for k in range(2 * MOST + 7)])
    pictures, _ = pictures_of(run)
    assert len(pictures) <= MOST and pictures[-1]() == 2 * MOST + 6


@pytest.mark.skipif("mp4" not in formats(), reason="no imageio-ffmpeg")
def test_an_mp4_is_one(run):
    pictures, _ = pictures_of(run)
    assert b"ftyp" in film((picture() for picture in pictures), "mp4", 5.0)[:16]


def test_without_ffmpeg_an_mp4_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setattr("flatlab.figures.films.formats", lambda: ["gif"])
    with pytest.raises(fl.SettingError, match="pip install imageio-ffmpeg"):
        fl.animate(run, tmp_path / "curves.mp4")
