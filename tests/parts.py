"""Parts to try laws on: one of each registered kind, and of a Gaussian each sort of scale.

A new likelihood, network, uncertainty or kind of data is to be added here: laws of decoders, of training and of files
are then tried on it.
"""

from geodesic.data.array import ArrayFile
from geodesic.data.csv_file import CSVFile
from geodesic.data.digits import Digits
from geodesic.data.h5ad import H5ADFile
from geodesic.data.idx import IdxFolder
from geodesic.data.image_folder import ImageFolder
from geodesic.data.mnist import MNIST, FashionMNIST
from geodesic.data.parquet import ParquetFile
from geodesic.data.source import DataSource
from geodesic.likelihoods import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Discretized,
    Gaussian,
    Likelihood,
    NegativeBinomial,
    Poisson,
)
from geodesic.models import ConvNetwork, MLPNetwork
from geodesic.models.networks.network import Network
from geodesic.models.uncertainty import BlendUncertainty, RBFUncertainty, Uncertainty

LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": Bernoulli(),
    "continuous_bernoulli": ContinuousBernoulli(),
    "gaussian": Gaussian(scale=0.3),
    "gaussian_learned": Gaussian(scale="learned", min_scale=0.02),
    "gaussian_per_pixel": Gaussian(scale="per_pixel"),
    "categorical": Categorical(4),
    "discretized": Discretized(5),
    "poisson": Poisson(),
    "poisson_by_row": Poisson(library=True),
    "negative_binomial": NegativeBinomial(2.5),
    "negative_binomial_learned": NegativeBinomial(library=7.0),
}
NETWORKS: dict[str, Network] = {"mlp": MLPNetwork((8, 5)), "conv": ConvNetwork((3, 4))}
UNCERTAINTIES: dict[str, Uncertainty] = {"rbf": RBFUncertainty(centers=4), "blend": BlendUncertainty(centers=4)}
DATA_SETS: dict[str, DataSource] = {
    "digits": Digits(test_fraction=0.3, seed=1),
    "mnist": MNIST(limit=7),
    "fashion_mnist": FashionMNIST(download=False),
    "array": ArrayFile("rows.npy"),
    "csv": CSVFile("rows.csv", labels="kind", ignore=("id",)),
    "parquet": ParquetFile("rows.parquet", test_fraction=0.5),
    "h5ad": H5ADFile("cells.h5ad", layer="counts"),
    "idx": IdxFolder("folder", train=3, test=2),
    "image_folder": ImageFolder("folder", size=(6, 3)),
}
