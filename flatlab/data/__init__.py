"""What clients hold: sources of images, partitions among clients, augmentation, and the `FederatedDataset` of them."""

from .augment import Augmentation, prepare
from .consecutive import Consecutive
from .dirichlet import Dirichlet, DirichletClasses
from .domains import Domains
from .federated import FederatedDataset
from .given import Fixed, Groups, indices_digest, labels_digest, save_partition
from .partitions import IID, Drawn, Labels, Partition, Sized
from .pathological import Classes, Shards
from .reading import load
from .sealing import check_unchanged
from .sources import Source
from .spec import DataSpec

__all__ = [
    "IID",
    "Augmentation",
    "Classes",
    "Consecutive",
    "DataSpec",
    "Dirichlet",
    "DirichletClasses",
    "Domains",
    "Drawn",
    "FederatedDataset",
    "Fixed",
    "Groups",
    "Labels",
    "Partition",
    "Shards",
    "Sized",
    "Source",
    "check_unchanged",
    "indices_digest",
    "labels_digest",
    "load",
    "prepare",
    "save_partition",
]
