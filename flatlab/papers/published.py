"""Numbers that the papers and others printed, each with its source. Targets to compare with, never test oracles.

`RECALLED` ones are from memory and unchecked against the papers' text; they are shown so, and no claim rests on them.
"""

from __future__ import annotations

from .tables import RECALLED, Published

ETRI = "measured re-run by etri-edgeai/nn-dist-train (tau 5, K 320, wd 1e-5)"

# FedBABU, Table 1: FedAvg initial / personalized accuracy by (participation, tau), for s = 100, 50, 10.
_FEDAVG = {
    (1.0, 1): "46.93±5.47/51.93±5.19 45.68±5.50/57.84±5.08 37.27±6.97/77.46±5.78",
    (1.0, 4): "37.44±4.98/42.66±5.09 36.05±4.04/47.17±4.26 24.17±5.50/70.41±6.83",
    (1.0, 10): "29.58±4.87/34.62±4.97 29.12±4.11/40.59±5.23 15.85±4.79/63.51±7.38",
    (0.1, 1): "39.07±5.22/43.92±5.55 38.20±5.73/49.55±5.36 29.12±7.11/71.24±7.82",
    (0.1, 4): "35.39±4.58/39.67±5.21 33.49±4.72/43.63±4.77 21.14±6.86/67.20±7.72",
    (0.1, 10): "28.18±4.83/33.13±5.22 27.34±4.96/38.09±5.17 14.40±5.64/62.67±6.52",
}
# MobileNet, CIFAR-100, f = .1: initial / personalized accuracy for s = 10, 50, 100.
_ETRI = {
    "FedAvg": "36.63±7.71/70.39±6.25 40.51±4.64/43.54±4.65 43.18±4.94/44.08±5.30",
    "FedBABU": "44.92±8.23/79.11±6.02 40.70±4.33/51.36±4.96 39.81±4.98/45.12±5.09",
    "LocalOnly": "/58.64 /25.38 /18.52",
    "FedPer": "/70.92 /33.73 /22.77",
    "PerFedAvg": "/32.57 /43.09 /45.00",
    "FedRep": "/62.69 /34.66 /26.53",
}

# FedASAM: holdout accuracy for K = 5 / 10 / 20 clients a round, by alpha.
_C100 = {
    "FedAvg": "30.25/36.74/38.59 40.43/41.27/42.17 49.92/50.25/50.66",
    "FedAvg E=2": "24.94/31.81/35.18 38.21/39.59/40.94 48.72/48.64/48.45",
    "FedSAM": "31.04/36.93/38.56 44.73/44.84/46.05 54.01/53.39/53.97",
    "FedASAM": "36.04/39.76/40.81 45.61/46.58/47.78 54.81/54.97/54.50",
    "FedAvg + SWA": "39.34/39.74/39.85 43.90/44.02/42.09 50.98/50.87/50.92",
    "FedSAM + SWA": "39.30/39.51/39.24 47.96/46.76/46.47 53.90/53.67/54.36",
    "FedASAM + SWA": "42.01/42.64/41.62 49.17/48.72/48.27 53.86/54.79/54.10",
}
_C10 = {
    "FedAvg": "65.00/65.54/68.52 69.24/72.50/73.07 84.46/84.50/84.59",
    "FedSAM": "70.16/71.09/72.90 73.52/74.81/76.04 84.58/84.67/84.82",
    "FedASAM": "73.66/74.10/76.09 75.61/76.22/76.98 84.77/84.72/84.75",
    "FedAvg + SWA": "69.71/69.54/70.19 73.48/72.80/73.81 84.35/84.32/84.47",
    "FedSAM + SWA": "74.97/73.73/73.06 76.61/75.84/76.22 84.23/84.37/84.63",
    "FedASAM + SWA": "76.44/75.51/76.36 76.12/76.16/76.86 84.88/84.80/84.79",
}
_ALPHAS = {"cifar100": (0, 0.5, 1000), "cifar10": (0, 0.05, 100)}
_CONFIDENCE = {"cifar100": "high for K = 5, else medium", "cifar10": "medium to low"}
# C100, alpha = 0, K = 5.
_CENTRALIZED = {
    "SGD": "52.20", "SAM": "55.22", "ASAM": "55.66", "SWA": "52.72", "SAM + SWA": "55.75", "ASAM + SWA": "55.96",
    "Mixup": "58.01", "Cutout": "55.30",
}  # fmt: skip
_MIXED = {"Mixup": "29.91", "Cutout": "24.22"}
# C100: largest eigenvalue and its ratio to the fifth, alpha = 0 and 1000.
_EIGENVALUES = {
    "FedAvg": "93.46/2.00 106.14/1.31",
    "FedAvg E=2": "110.62/2.32 118.35/1.30",
    "FedSAM": "70.29/1.79 51.28/1.48",
    "FedASAM": "30.11/1.80 20.19/1.27",
    "FedAvg + SWA": "97.24/1.49 120.02/1.39",
    "FedSAM + SWA": "73/1.6 54/1.5",
    "FedASAM + SWA": "24.6/1.5 21/1.3",
}


def fedavg(participation: float, epochs: int, shards: int, tuned: bool) -> tuple[Published, ...]:
    """FedBABU, Table 1: FedAvg's initial accuracy, or its personalized one (`tuned`)."""
    line = _FEDAVG.get((participation, epochs))
    if line is None or shards not in (100, 50, 10):
        return ()
    return (Published(line.split()[(100, 50, 10).index(shards)].split("/")[tuned]),)


def etri(method: str, shards: int, tuned: bool) -> tuple[Published, ...]:
    """The re-run whose protocol is nearest to FedBABU's Tables 1 and 5."""
    if method not in _ETRI or shards not in (10, 50, 100):
        return ()
    text = _ETRI[method].split()[(10, 50, 100).index(shards)].split("/")[tuned]
    return (Published(text, ETRI),) if text else ()


def fedasam(dataset: str, row: str, alpha: float, clients: int) -> tuple[Published, ...]:
    """FedASAM's tables of accuracy."""
    line = {"cifar100": _C100, "cifar10": _C10}.get(dataset, {}).get(row)
    if line is None or alpha not in _ALPHAS[dataset] or clients not in (5, 10, 20):
        return ()
    text = line.split()[_ALPHAS[dataset].index(alpha)].split("/")[(5, 10, 20).index(clients)]
    return (Published(text, f"{RECALLED}; confidence {_CONFIDENCE[dataset]}"),)


def centralized(row: str) -> tuple[Published, ...]:
    """FedASAM, CIFAR-100: trained on all data at once."""
    return (Published(_CENTRALIZED[row], f"{RECALLED}; confidence high"),) if row in _CENTRALIZED else ()


def mixed(row: str) -> tuple[Published, ...]:
    """FedASAM, CIFAR-100, alpha 0, K 5: FedAvg with Mixup or Cutout."""
    return (Published(_MIXED[row], f"{RECALLED}; confidence high"),) if row in _MIXED else ()


def eigenvalues(row: str, alpha: float, ratio: bool) -> tuple[Published, ...]:
    """FedASAM, CIFAR-100: largest eigenvalue, or its ratio to the fifth."""
    if row not in _EIGENVALUES or alpha not in (0, 1000):
        return ()
    text = _EIGENVALUES[row].split()[(0, 1000).index(alpha)].split("/")[ratio]
    return (Published(text, f"{RECALLED}; confidence medium to low"),)
