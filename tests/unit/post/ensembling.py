"""Members of ensembles for tests: drawn, and with an answer that is known."""

import numpy as np

TYPES = ("classification", "multilabel", "regression", "segmentation")


def draw(task_type="classification", members=6, samples=200, classes=4, seed=0, scale=2.0):
    """Draw members that know something about their targets, some more than others."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=(samples, classes))
    noise = generator.uniform(0.5, 2, size=(members, 1, 1)) * generator.normal(size=(members, samples, classes))
    logits = (scale * (truth + noise)).astype(np.float32)
    if task_type == "multilabel":
        return logits, (truth + generator.normal(size=truth.shape) > 0).astype(np.uint8)
    if task_type == "regression":
        return logits, scale * truth
    return logits, truth.argmax(axis=1)


def plant(task_type="classification", planted=(1, 4), members=7, samples=600, classes=3, seed=0):
    """Draw members of which only the sum of the planted ones, with equal weights, is free of noise."""
    generator = np.random.default_rng(seed)
    truth = 2 * generator.normal(size=(samples, classes))
    logits = truth + 6 * generator.normal(size=(members, samples, classes))
    noise = 2 * generator.normal(size=(len(planted), samples, classes))
    logits[list(planted)] = truth + noise - noise.mean(axis=0)
    if task_type == "multilabel":
        return logits, (generator.random(truth.shape) < 1 / (1 + np.exp(-truth))).astype(np.uint8)
    if task_type == "regression":
        return logits, truth
    return logits, (truth + generator.gumbel(size=truth.shape)).argmax(axis=1)


def equal_weights(chosen, members):
    """Return weights that are equal for the chosen members."""
    weights = np.zeros(members)
    weights[list(chosen)] = 1 / len(chosen)
    return weights
