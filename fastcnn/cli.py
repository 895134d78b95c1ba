"""The `fastcnn` command: train, evaluate, predict, info, bench."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import fastcnn
from fastcnn import datasets
from fastcnn._threads import MOST_THREADS
from fastcnn._training_run import (
    LEARNING_RATES,
    MODEL,
    MOMENTUM,
    STATE,
    Settings,
    read_settings,
    train,
)
from fastcnn.schedules import SCHEDULES

if TYPE_CHECKING:
    from fastcnn.backend import Array, Backend

__all__ = ["main"]

BACKENDS: Final = ("fast", "reference")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, like all others of this command."""

    def error(self, message: str) -> NoReturn:
        self.exit(_fail(f"{message}; see {self.prog} --help"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 2 for a user's error, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _fail("stopped by Ctrl-C; what was saved before is whole", 130)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        return _fail(f"not enough memory: {error}")
    except OSError as error:
        reason = error.strerror or str(error)
        return _fail(reason if error.filename is None else f"{error.filename}: {reason}")
    except (ValueError, TypeError, FloatingPointError) as error:
        return _fail(str(error))
    return 0


def _fail(message: str, code: int = 2) -> int:
    print(f"fastcnn: {' '.join(message.split())}", file=sys.stderr)
    return code


# ---------------------------------------------------------------------- options
def _integer(least: int, most: int | None = None) -> Callable[[str], int]:
    accepted = f"of {least} or more" if most is None else f"from {least} to {most}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"expected an integer {accepted}, got {text[:40]!r}")
        return value

    return parse


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text[:40]!r}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastcnn",
        description="Convolutional networks on the CPU.",
        epilog="`fastcnn COMMAND --help` describes each command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastcnn {fastcnn.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], None], summary: str, text: str = ""
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}. {text}".strip(),
            allow_abbrev=False,
        )
        added.set_defaults(run=run)
        return added

    training = command(
        "train",
        _train,
        "train the sample network and save it",
        "Alone, it trains on strokes, digits that fastcnn draws itself. The output folder gets "
        "model.safetensors, state.safetensors (what --resume reads), history.json and, where "
        "matplotlib is installed, curves.png, all of them anew after every epoch. A run that is "
        "in the folder already is replaced when the first epoch of the new one is done. The "
        "last line printed is the accuracy of the last epoch's weights on the test images.",
    )
    _add_data(training, default=Settings.dataset)
    add = training.add_argument
    add(
        "--epochs",
        type=_integer(1),
        metavar="N",
        help=f"times through the data (default: {Settings.epochs})",
    )
    add(
        "--batch-size",
        type=_integer(1),
        metavar="N",
        help=f"images a step (default: {Settings.batch_size})",
    )
    add(
        "--optimizer",
        choices=tuple(LEARNING_RATES),
        help=f"sgd has momentum {MOMENTUM} (default: {Settings.optimizer})",
    )
    rates = ", ".join(f"{rate} for {name}" for name, rate in LEARNING_RATES.items())
    add("--lr", type=_rate, metavar="X", help=f"learning rate (default: {rates})")
    add(
        "--schedule",
        choices=tuple(SCHEDULES),
        help=f"how the learning rate changes (default: {Settings.schedule})",
    )
    _add_backend(training)
    add(
        "--seed",
        type=_integer(0),
        metavar="N",
        help=f"of the initial weights and the order of the images (default: {Settings.seed})",
    )
    add("--limit-train", type=_integer(1), metavar="N", help="train on the first N images only")
    add("--limit-test", type=_integer(1), metavar="N", help="test on the first N images only")
    add("--output", type=Path, metavar="DIR", help="output folder (default: runs/DATASET)")
    add(
        "--resume",
        action="store_true",
        help="go on with the run in the output folder, with its settings, to the same bits as if "
        "it had never stopped; --epochs, the total, may be named anew to train longer",
    )

    evaluate = command("evaluate", _evaluate, "measure a model on the test images of a data set")
    _add_model(evaluate)
    _add_data(evaluate, default="the one that the model's run was trained on")
    evaluate.add_argument(
        "--limit-test", type=_integer(1), metavar="N", help="test on the first N images only"
    )
    evaluate.add_argument(
        "--batch-size",
        type=_integer(1),
        default=128,
        metavar="N",
        help="images at a time (default: 128)",
    )
    _add_backend(evaluate)

    predict = command(
        "predict",
        _predict,
        "print class and probability of images",
        "Image files (these need Pillow) are made grey, or RGB for a model of three channels, "
        "and resized to the model's input; the data sets' digits are light on a dark ground. "
        ".npy arrays of one image or a batch are taken in the model's input size, uint8 from 0 "
        "to 255 or floats as the model was trained on (0 to 1).",
    )
    _add_model(predict)
    predict.add_argument("files", nargs="+", metavar="FILE", help="image files or .npy arrays")
    predict.add_argument(
        "--invert", action="store_true", help="turn image files from dark on light to light on dark"
    )
    _add_backend(predict)

    info = command("info", _info, "show versions, instruction sets and threads, or a model")
    _add_model(info, nargs="?")

    bench = command(
        "bench",
        _bench,
        "compare the fast backend with the reference",
        "Op by op and as a training step, on sizes small enough for the reference's Python "
        "loops; results are compared before they are timed.",
    )
    _add_threads(bench)
    return parser


def _add_data(parser: argparse.ArgumentParser, *, default: str) -> None:
    parser.add_argument("--dataset", choices=datasets.NAMES, help=f"data set (default: {default})")
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder that is there, maybe empty: mnist/ and fashion-mnist/ in it, to which missing "
        "files are downloaded (default: the environment variable FASTCNN_DATA, else the "
        "platform's cache)",
    )


def _add_model(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    parser.add_argument(
        "model",
        nargs=nargs,
        type=Path,
        metavar="MODEL",
        help="a model file, or the output folder of a run",
    )


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="fast",
        help="fast kernels, or the reference's loops in Python (default: fast)",
    )
    _add_threads(parser)


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads",
        type=_integer(1, MOST_THREADS),
        metavar="N",
        help="threads of the fast backend (default: as many as there are CPUs)",
    )


# ---------------------------------------------------------------------- commands
def _train(options: argparse.Namespace) -> None:
    names = (field.name for field in fields(Settings))
    accuracy = train(
        {name: getattr(options, name) for name in names if getattr(options, name) is not None},
        output=options.output,
        resume=options.resume,
        data_dir=options.data_dir,
        backend=_backend(options),
    )
    print(f"test accuracy: {accuracy:.4f}")


def _evaluate(options: argparse.Namespace) -> None:
    path = _model_path(options.model)
    model = fastcnn.load(path)
    name = options.dataset
    if name is None:
        state = path.with_name(STATE)
        if not state.is_file():
            raise ValueError(
                f"evaluate: expected --dataset, since no run lies beside {path} to tell it"
            )
        name = read_settings(state).dataset
    # one training image: strokes would be drawn in vain
    _, (x, y) = datasets.load(name, options.data_dir, limit_train=1, limit_test=options.limit_test)
    trainer = fastcnn.Trainer(model, backend=_backend(options))
    measured = trainer.evaluate(x, y, batch_size=options.batch_size)
    print(f"{name}: {len(x):,} test images")
    print(f"test loss: {measured['loss']:.4f}")
    print(f"test accuracy: {measured['accuracy']:.4f}")


def _predict(options: argparse.Namespace) -> None:
    from fastcnn._images import read_images

    model = fastcnn.load(_model_path(options.model))
    if len(model.output_shape) != 1:
        raise ValueError(
            f"predict: expected a model that gives classes, got one that gives {model.output_shape}"
        )
    trainer = fastcnn.Trainer(model, backend=_backend(options))
    # everything is read and answered before anything is printed
    batches: list[tuple[list[str], Array]] = [
        read_images(file, model.input_shape, invert=options.invert) for file in options.files
    ]
    answers = []
    for labels, x in batches:
        for label, p in zip(labels, trainer.predict_proba(x), strict=True):
            if math.isnan(p.max()):
                raise ValueError(
                    f"{label}: expected probabilities, got NaN: there are NaN, infinite or far too "
                    "large numbers in the image or in the model's weights"
                )
            answers.append(f"{label}: class {p.argmax()}, probability {p.max():.4f}")
    print("\n".join(answers))


def _info(options: argparse.Namespace) -> None:
    if options.model is None:
        fastcnn.show_config()
    else:
        path = _model_path(options.model)
        summary = fastcnn.load(path).summary()
        print(path)
        print(summary)


def _bench(options: argparse.Namespace) -> None:
    from fastcnn._bench import compare

    _use_threads(options)
    compare()


def _backend(options: argparse.Namespace) -> Backend:
    _use_threads(options)
    return fastcnn.get_backend(options.backend)


def _use_threads(options: argparse.Namespace) -> None:
    if options.threads is not None:
        fastcnn.set_num_threads(options.threads)


def _model_path(path: Path) -> Path:
    return path / MODEL if path.is_dir() else path
