"""What clients hold: sources of images, partitions among clients, augmentation, and the `FederatedDataset` of them."""

from flatlab.data.augment import Augmentation, prepare
from flatlab.data.consecutive import Consecutive
from flatlab.data.dirichlet import Dirichlet, DirichletClasses
from flatlab.data.domains import Domains
from flatlab.data.federated import FederatedDataset
from flatlab.data.given import Fixed, Groups, indices_digest, labels_digest, save_partition
from flatlab.data.partitions import IID, Drawn, Labels, Partition, Sized
from flatlab.data.pathological import Classes, Shards
from flatlab.data.reading import load
from flatlab.data.sources import Source
from flatlab.data.spec import DataSpec

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
    "indices_digest",
    "labels_digest",
    "load",
    "prepare",
    "save_partition",
]
