"""The demo says what its own numbers say, and is made once."""

import pytest

from flatlab.papers import demonstration
from flatlab.papers.quantities import eigenvalue, personalization, top_eigenvalues


@pytest.fixture
def brief(monkeypatch):
    """The demo's runs cut down to a few rounds of few clients' narrow networks, measured on few samples."""
    whole = demonstration.experiment

    def short(setting, method, seed):
        made = whole(setting, method, seed)
        swa = made.algorithm.swa and made.algorithm.swa.replace(cycle=1)
        algorithm = made.algorithm.replace(swa=swa, epochs=1, local_steps=3)
        small = {"model.width": 0.125, "data.clients": 10}
        return made.replace(rounds=3, algorithm=algorithm, **small)

    monkeypatch.setattr(demonstration, "experiment", short)
    monkeypatch.setattr(demonstration, "TUNING", personalization(epochs=2, lr=0.01))
    monkeypatch.setattr(demonstration, "TOP", eigenvalue(top_eigenvalues(40)))
    monkeypatch.setattr(demonstration, "ALONG", demonstration.ALONG | {"points": 5, "limit": 40})
    monkeypatch.setattr(demonstration, "SEEDS", dict.fromkeys(demonstration.SEEDS, (0, 1)))


@pytest.mark.filterwarnings("ignore:top. the largest eigenvalue")  # of networks that have hardly learned
def test_the_demo_prints_a_table_and_verdicts_and_draws_a_figure(brief, tmp_path):
    said, told = [], []
    demonstration.demo(tmp_path, tmp_path / "data", "cpu", said.append, told.append)
    text = "\n".join(said)
    for word in ("FedBABU", "FedASAM + SWA", "1 epoch %", "λ₁", "holdout loss", "2 seeds"):
        assert word in text
    assert sum(any(word in line for word in ("holds", "does not hold", "undecided")) for line in said) == 3
    assert (tmp_path / "demo.png").stat().st_size > 10_000 and sum(line.startswith("[") for line in told) == 8
    again = []
    demonstration.demo(tmp_path, tmp_path / "data", "cpu", again.append, told.append)
    assert again == said and sum(line.startswith("[") for line in told) == 8
