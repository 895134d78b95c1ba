"""What other libraries and people who guess call things that have another name here.

Names are looked up in small letters without underscores, and those that mean something else in one
module behind its name. What is found is a name of the library's, which the sentence asks after, or,
where it has spaces, what to say instead.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ARGUMENTS", "ELSEWHERE", "NAMES", "VALUES"]

# ---------------------------------------------------------------------- names in modules
_AVERAGE = "nn.GlobalAvgPool2D"
_CLASSES = "losses.CrossEntropy"
_SQUARES = "losses.MeanSquaredError"
_SAVING = "model.save(path) writes a model, trainer.save_state(path) a training"
_OPTIMIZERS = "optim has SGD, Adam and AdamW"
_ARRAYS = "arrays are NumPy's"
_JOINING = "nn.concat([a, b]), or nn.Concat()([a, b]), joins symbols"
_OWN_LAYER = "a layer of your own is a subclass of nn.Module, with traceable = True one of ops"

NAMES: Final[dict[str, str]] = {
    # layers
    "activation": 'an activation is a layer such as nn.ReLU or an option, activation="relu"',
    "adaptiveavgpool2d": f"{_AVERAGE} is the mean over the whole image",
    "adaptivemaxpool2d": "nn.GlobalMaxPool2D is the largest value of the whole image",
    "averagepooling2d": "nn.AvgPool2D",
    "batchnorm1d": "nn.BatchNorm",
    "batchnorm2d": "nn.BatchNorm",
    "convtranspose2d": "nn.Conv2DTranspose",
    "upsample": "nn.UpSample2D",
    "upsampling2d": "nn.UpSample2D",
    "batchnormalization": "nn.BatchNorm",
    "globalaveragepooling2d": _AVERAGE,
    "globalmaxpooling2d": "nn.GlobalMaxPool2D",
    "dropout2d": "nn.SpatialDropout2D",
    "droppath": "nn.StochasticDepth",
    "groupnormalization": "nn.GroupNorm",
    "instancenorm2d": "nn.InstanceNorm",
    "instancenormalization": "nn.InstanceNorm",
    "layernormalization": "nn.LayerNorm",
    "lrn": "nn.LocalResponseNorm",
    "layer": "nn.Module",
    "layers": "nn",
    "inputlayer": "nn.Input",
    "lambda": _OWN_LAYER,
    "linear": "nn.Dense",
    "maxpooling2d": "nn.MaxPool2D",
    "modulelist": "a list of layers in an attribute is enough",
    "moduledict": "a dict of layers in an attribute is enough",
    "nn.cat": _JOINING,
    "nn.concatenate": _JOINING,
    "nn.functional": "fastcnn.functional has the ops",
    "nn.mul": "nn.multiply",
    "reshape": _OWN_LAYER,
    "separableconv2d": "nn.DepthwiseConv2D and nn.Conv2D(filters, 1) after it are one",
    "swish": "nn.SiLU",
    # ops
    "averagepool2d": "functional.avg_pool2d",
    "avgpool": "functional.avg_pool2d",
    "batchnorm": "functional.batch_norm",
    "cat": "functional.concat",
    "concatenate": "functional.concat",
    "conv": "functional.conv2d",
    "functional.dense": "functional.linear",
    "functional.flatten": "x.reshape(len(x), -1) flattens images",
    "globalavgpool": "functional.global_avg_pool2d",
    "logsoftmax": "cross_entropy takes logits; np.log of softmax(x) is it",
    "matmul": "functional.linear",
    "maxpool": "functional.max_pool2d",
    "mul": "functional.multiply",
    "onehot": "cross_entropy takes integer labels; np.eye(classes)[labels] is it",
    "pad": "padding is an option of convolutions and pools; np.pad pads an array",
    "softmaxcrossentropy": "functional.cross_entropy",
    "softmaxcrossentropywithlogits": "functional.cross_entropy",
    "sparsesoftmaxcrossentropywithlogits": "functional.cross_entropy",
    # losses
    "binarycrossentropy": f"{_CLASSES}, of a model with two outputs, is it",
    "bceloss": f"{_CLASSES}, of a model with two outputs, is it",
    "bcewithlogitsloss": f"{_CLASSES}, of a model with two outputs, is it",
    "categoricalcrossentropy": _CLASSES,
    "crossentropyloss": _CLASSES,
    "mse": _SQUARES,
    "mseloss": _SQUARES,
    "nllloss": _CLASSES,
    "sparsecategoricalcrossentropy": _CLASSES,
    # optimizers, schedules, callbacks, measures
    "adadelta": _OPTIMIZERS,
    "adagrad": _OPTIMIZERS,
    "adamax": _OPTIMIZERS,
    "nadam": _OPTIMIZERS,
    "radam": _OPTIMIZERS,
    "cosineannealinglr": "schedules.Cosine",
    "cosinedecay": "schedules.Cosine",
    "learningratescheduler": "Trainer(model, schedule=...) takes a schedule",
    "lrscheduler": "schedules",
    "modelcheckpoint": "callbacks.Checkpoint",
    "multisteplr": "schedules.Step",
    "optimizers": "optim",
    "reducelronplateau": "Trainer(model, schedule=...) takes a schedule",
    "steplr": "schedules.Step",
    "accuracyscore": "metrics.accuracy",
    # data and files
    "cifar10": "datasets has strokes, mnist and fashion-mnist",
    "dataloader": "Trainer.fit(x, y, batch_size=...) makes the batches",
    "dataset": "datasets",
    "fashionmnist": 'datasets.load("fashion-mnist") reads it',
    "loaddata": 'datasets.load("mnist") reads it',
    "loadmodel": "fastcnn.load(path) reads a model",
    "loadstatedict": "model.load_state_dict(state) takes weights by name",
    "loadweights": "fastcnn.load(path) reads a model",
    "mnist": "datasets.mnist",
    "loadmnist": 'datasets.load("mnist") reads it',
    "save": _SAVING,
    "savemodel": _SAVING,
    # the rest
    "array": _ARRAYS,
    "tensor": _ARRAYS,
    "cuda": "fastcnn runs on CPUs",
    "device": "fastcnn runs on CPUs",
    "fit": "fastcnn.Trainer(model).fit(x, y) trains a model",
    "manualseed": "Trainer(model, seed=...) has the seed",
    "seed": "Trainer(model, seed=...) has the seed",
    "setseed": "Trainer(model, seed=...) has the seed",
    "nograd": "model(x, backend) keeps nothing for a backward pass",
    "predict": "fastcnn.Trainer(model).predict(x) or fastcnn.Predictor(model)(x) runs a model",
    "referencebackend": 'fastcnn.get_backend("reference") is it',
    "setthreads": "set_num_threads",
}

# ---------------------------------------------------------------------- arguments
# The first that the function at hand has is asked after.
ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "alpha": ("negative_slope",),
    "beta": ("bias", "b"),
    "betas": ("beta1 and beta2",),
    "bias": ("use_bias", "b"),
    "classweight": ("class_weights",),
    "clipnorm": ("clip_norm",),
    "decay": ("weight_decay",),
    "dim": ("axis",),
    "eps": ("epsilon",),
    "filepath": ("path",),
    "globalclipnorm": ("clip_norm",),
    "images": ("x",),
    "input": ("x", "logits"),
    "inputs": ("x",),
    "interpolation": ("method",),
    "kernel": ("kernel_size", "filters", "w"),
    "kernelinitializer": ("initializer",),
    "kernelsize": ("pool_size",),
    "ksize": ("pool_size", "kernel_size"),
    "labels": ("y",),
    "lr": ("learning_rate",),
    "maxnorm": ("clip_norm",),
    "mode": ("method",),
    "outchannels": ("filters",),
    "outfeatures": ("units",),
    "p": ("rate",),
    "poolsize": ("kernel_size",),
    "restorebestweights": ("restore_best",),
    "savebestonly": ("monitor",),
    "scalefactor": ("factor",),
    "scheduler": ("schedule",),
    "size": ("factor",),
    "smoothing": ("label_smoothing",),
    "strides": ("stride",),
    "target": ("y", "labels"),
    "targets": ("y", "labels"),
    "threads": ("num_threads",),
    "nthreads": ("num_threads",),
    "nbepoch": ("epochs",),
    "var": ("variance",),
    "weight": ("class_weights", "filters", "gamma", "w"),
    "weights": ("class_weights", "filters", "w"),
}

_LASTS = "it goes over the last axis"
_OPTIMIZER = "the optimizer has it, as in optim.SGD(learning_rate=0.05, momentum=0.9)"
_FIT = "Trainer.fit takes it"
_TRAINER = "Trainer takes it"
_INPUTS = "build or the first call of the trainer finds the shape of inputs"

# What else there is to say of an argument that a function doesn't have.
ELSEWHERE: Final[dict[str, str]] = {
    "axis": _LASTS,
    "dim": _LASTS,
    "batchsize": _FIT,
    "callbacks": _FIT,
    "epochs": _FIT,
    "validationdata": _FIT,
    "validationsplit": _FIT,
    "verbose": _FIT,
    "classweight": "losses.CrossEntropy(class_weights=...) has it",
    "classweights": "losses.CrossEntropy(class_weights=...) has it",
    "labelsmoothing": "losses.CrossEntropy(label_smoothing=...) has it",
    "device": "fastcnn runs on CPUs",
    "fromlogits": "the model gives logits, always",
    "inchannels": _INPUTS,
    "infeatures": _INPUTS,
    "inputshape": _INPUTS,
    "numfeatures": _INPUTS,
    "lr": _OPTIMIZER,
    "learningrate": _OPTIMIZER,
    "momentum": _OPTIMIZER,
    "weightdecay": _OPTIMIZER,
    "loss": _TRAINER,
    "optimizer": _TRAINER,
    "schedule": _TRAINER,
    "backend": _TRAINER,
    "seed": _TRAINER,
    "metrics": "the accuracy is measured wherever targets are classes",
    "numthreads": "fastcnn.FastBackend(num_threads=...) has it",
    "threads": "fastcnn.FastBackend(num_threads=...) has it",
    "reduction": "the loss is the mean over the batch",
    "trainable": "layer.trainable = False freezes a layer",
    "training": "forward(..., training=True) is a pass in training",
    "tmax": "a schedule spans the steps of fit",
}

# ---------------------------------------------------------------------- values of options
VALUES: Final[dict[str, str]] = {
    "binarycrossentropy": "cross_entropy",
    "bce": "cross_entropy",
    "categoricalcrossentropy": "cross_entropy",
    "nll": "cross_entropy",
    "softmaxcrossentropy": "cross_entropy",
    "sparsecategoricalcrossentropy": "cross_entropy",
    "l2": "mean_squared_error",
    "swish": "silu",
    "xavier": "glorot_uniform",
    "kaiming": "he_normal",
    "he": "he_normal",
    "cosineannealing": "cosine",
}
