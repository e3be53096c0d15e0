"""What the recipes of stochastic depth share: the network, optimiser and schedule of Huang et al."""

from dropact.experiments.recipes.settings import Setting

HUANG = "Huang, Sun, Liu, Sedra and Weinberger, Deep Networks with Stochastic Depth, arXiv:1603.09382"
HAYOU = "Hayou and Ayed, Regularization in ResNet with Stochastic Depth, arXiv:2106.03091"

# [P], but for the 5,000 images held out of the 50,000: reconstructed, the paper's text is not at hand.
HUANG_SETTING: Setting = {
    "network": "resnet-110",
    "augmentation": "crop+flip",
    "train_on": "train",
    "epochs": 500,
    "batch_size": 128,
    "lr": 0.1,
    "momentum": 0.9,
    "schedule": "step",
    "milestones": (250, 375),
    "lr_factor": 0.1,
    "weight_decay": 1e-4,
    "nesterov": True,
}

HUANG_NOTES = (
    "The paper's shortcuts have no parameters where the shape changes; here they are 1×1 convolutions, as everywhere "
    "in these tables.",
    "The test error is that of the last epoch. The paper reads it, we believe, at the epoch of the least validation "
    "error, on 5,000 images held out of the training set, as here: its text is not at hand.",
)
