"""The `fastcnn` command: train, evaluate, predict, convert, info, bench."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import fastcnn
from fastcnn import _convert, datasets
from fastcnn._model_files import KINDS, read_model
from fastcnn._threads import MOST_THREADS
from fastcnn._training_run import (
    LEARNING_RATES,
    MOMENTUM,
    STATE,
    Settings,
    read_settings,
    train,
)
from fastcnn._typed import integer_in, numbers, rate
from fastcnn.schedules import SCHEDULES

if TYPE_CHECKING:
    from fastcnn._prediction import Answer
    from fastcnn.backend import Backend

__all__ = ["main"]

BACKENDS: Final = ("fast", "reference")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, like all others of this command."""

    def error(self, message: str) -> NoReturn:
        self.exit(_fail(f"{message}; see {self.prog} --help"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 2 for a user's error, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code: int = options.run(options) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _fail("stopped by Ctrl-C; what was saved before is whole", 130)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError, TypeError, FloatingPointError, MemoryError) as error:
        return _fail(_sentence(error))
    return code


def _sentence(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return reason if error.filename is None else f"{error.filename}: {reason}"
    return str(error)


def _fail(message: str, code: int = 2) -> int:
    print(f"fastcnn: {' '.join(message.split())}", file=sys.stderr)
    return code


# ---------------------------------------------------------------------- options
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
        name: str, run: Callable[[argparse.Namespace], int | None], summary: str, text: str = ""
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
        "train the sample network, or fine-tune another, and save it",
        "Alone, it trains on strokes, digits that fastcnn draws itself. The output folder gets "
        "model.safetensors, state.safetensors (what --resume reads), history.json and, where "
        "matplotlib is installed, curves.png, all of them anew after every epoch. A run that is "
        "in the folder already is replaced when the first epoch of the new one is done. The "
        "last line printed is the accuracy of the last epoch's weights on the test images.",
    )
    _add_data(training, default=Settings.dataset)
    add = training.add_argument
    add(
        "--model",
        metavar="FILE",
        help=f"fine-tune the network in it, {KINDS}: it gets a new dense head of the data set's "
        "classes, if it gives another number of them or probabilities, and images of its size",
    )
    add(
        "--freeze",
        action="store_true",
        default=None,
        help="train the head of --model alone",
    )
    add(
        "--epochs",
        type=integer_in(1),
        metavar="N",
        help=f"times through the data (default: {Settings.epochs})",
    )
    add(
        "--batch-size",
        type=integer_in(1),
        metavar="N",
        help=f"images a step (default: {Settings.batch_size})",
    )
    add(
        "--optimizer",
        choices=tuple(LEARNING_RATES),
        help=f"sgd has momentum {MOMENTUM} (default: {Settings.optimizer})",
    )
    rates = ", ".join(f"{rate} for {name}" for name, rate in LEARNING_RATES.items())
    add("--lr", type=rate, metavar="X", help=f"learning rate (default: {rates})")
    add(
        "--schedule",
        choices=tuple(SCHEDULES),
        help=f"how the learning rate changes (default: {Settings.schedule})",
    )
    _add_backend(training)
    add(
        "--seed",
        type=integer_in(0),
        metavar="N",
        help=f"of the initial weights and the order of the images (default: {Settings.seed})",
    )
    add("--limit-train", type=integer_in(1), metavar="N", help="train on the first N images only")
    add("--limit-test", type=integer_in(1), metavar="N", help="test on the first N images only")
    add("--output", type=Path, metavar="DIR", help="output folder (default: runs/DATASET)")
    add(
        "--resume",
        action="store_true",
        help="go on with the run in the output folder, with its settings, to the same bits as if "
        "it had never stopped; --epochs, the total, may be named anew to train longer",
    )

    evaluate = command(
        "evaluate",
        _evaluate,
        "measure a model on the test images of a data set",
        "They are made of the model's size, grey becomes three channels where it takes these, and "
        "prepared as arrays of uint8 are by predict: mean and std of the model's notes, where it "
        "has them.",
    )
    _add_model(evaluate)
    _add_data(evaluate, default="the one that the model's run was trained on")
    evaluate.add_argument(
        "--limit-test", type=integer_in(1), metavar="N", help="test on the first N images only"
    )
    evaluate.add_argument(
        "--batch-size",
        type=integer_in(1),
        default=128,
        metavar="N",
        help="images at a time (default: 128)",
    )
    _add_backend(evaluate)

    predict = command(
        "predict",
        _predict,
        "print class and probability of images",
        "Image files (these need Pillow) are turned as their orientation says, laid on white "
        "where they are transparent, made grey, or RGB for a model of three channels, and resized"
        " to the model's input, unless that takes any size; of an animation the first frame "
        "counts. Grey of 16 bits is scaled to 8, floats are taken from 0 to 1. What would take "
        "more than 200 MB to decode is refused: above 50 megapixels of colour in a PNG or BMP, 25"
        " in a TIFF, 12 in a WebP; a JPEG may have 89. The data sets' digits are light on a dark "
        "ground. .npy arrays of one image or a batch are taken in the model's input size, uint8 "
        "from 0 to 255 or floats as the model was trained on (0 to 1). Class names and "
        "preprocessing are those in the model's notes, if it has any: files of ONNX and Keras "
        "have none. A file that cannot be read is passed over, with a sentence, and the exit code"
        " is 2.",
    )
    _add_model(predict)
    add = predict.add_argument
    add("files", nargs="+", metavar="FILE", help="image files or .npy arrays")
    add(
        "--invert",
        action=argparse.BooleanOptionalAction,
        help="turn image files from dark on light to light on dark (default: as in the model's "
        "notes, else not)",
    )
    for name, what in (("mean", "taken from"), ("std", "what then divides")):
        add(
            f"--{name}",
            type=numbers,
            metavar="X,...",
            help=f"{what} pixels from 0 to 1, one number or one a channel (default: as in the "
            "model's notes, else none)",
        )
    add("--labels", type=Path, metavar="FILE", help="names of the classes, a line each")
    add(
        "--format",
        choices=("text", "json", "csv"),
        default="text",
        help="of what is printed; json has the probabilities of all classes (default: text)",
    )
    add(
        "--top",
        type=integer_in(1),
        default=1,
        metavar="N",
        help="tell of the N most probable classes (default: 1)",
    )
    _add_backend(predict)

    convert = command("convert", _convert.run, "write a model file of another kind", _convert.ABOUT)
    _convert.add_options(convert)

    info = command(
        "info",
        _info,
        "show versions, instruction sets and threads, or what is in a file",
        "Of a model its layers, shapes, parameters, multiply-adds, inputs and outputs; of an ONNX "
        "file its opset and operators, too. Of a state dict of PyTorch (.pt, .pth, .safetensors) "
        "its arrays.",
    )
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
        help=f"{KINDS}, or the output folder of a run",
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
        type=integer_in(1, MOST_THREADS),
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
    from fastcnn._prediction import Classifier

    path = options.model
    model = read_model(path)
    name = options.dataset
    if name is None:
        state = path / STATE if path.is_dir() else path.with_name(STATE)
        if not state.is_file():
            raise ValueError(
                f"evaluate: expected --dataset, since no run lies beside {path} to tell it"
            )
        name = read_settings(state).dataset
    # one training image: strokes would be drawn in vain
    _, (x, y) = datasets.load(name, options.data_dir, limit_train=1, limit_test=options.limit_test)
    classifier = Classifier(model, _backend(options), command="evaluate")
    measured = classifier.measure(x, y, batch_size=options.batch_size)
    print(f"{name}: {len(x):,} test images")
    print(f"test loss: {measured['loss']:.4f}")
    print(f"test accuracy: {measured['accuracy']:.4f}")


def _predict(options: argparse.Namespace) -> int:
    from fastcnn._prediction import FORMATS, Classifier, labels_in

    model = read_model(options.model)
    if options.labels is not None:
        model.notes = {**model.notes, "classes": labels_in(options.labels, model)}
    given = {name: getattr(options, name) for name in ("invert", "mean", "std")}
    classifier = Classifier(model, _backend(options), given=given)
    code = 0

    def answers() -> Iterator[Answer]:
        nonlocal code
        for found in classifier.ask(options.files):
            if isinstance(found, Exception):
                sys.stdout.flush()
                code = _fail(_sentence(found))
            else:
                yield found

    FORMATS[options.format](answers(), options.top)
    return code


def _info(options: argparse.Namespace) -> None:
    if options.model is None:
        fastcnn.show_config()
    else:
        from fastcnn._info import describe

        describe(options.model)


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
