"""What is learned: networks, likelihoods, variational autoencoders and their training. No geometry."""

from geodesic.contents import contents

__getattr__, __dir__, _names = contents(
    "geodesic.models",
    {
        "geodesic.models.networks.convolutional": ("ConvNetwork",),
        "geodesic.models.networks.mlp": ("MLPNetwork",),
        "geodesic.models.evaluation": (
            "evaluate_elbo",
            "importance_weighted_bound",
        ),
        "geodesic.models.training.plan": ("Training",),
        "geodesic.models.training.train": ("TrainingResult",),
    },
)
__all__ = _names
