"""The Python part of check-onnx: exports networks and runs them in ONNX Runtime.

    check_onnx.py RESIDUA FOLDER WHAT...    FOLDER/fixtures holds NAME.safetensors and, of the same network, NAME.results
"""
import json
import pathlib
import subprocess
import sys

import numpy
import onnx
import onnxruntime
import PIL.Image
import safetensors.numpy

TOLERANCE = 1e-4
RESIDUA, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
NORMALISED = [("--input", "nchw"), ("--input", "nchw", "--keep-norms"), ("--input", "nhwc")]
RAW = [("--input", axes, "--with-normalisation", *norms) for axes in ("nchw", "nhwc") for norms in ((), ("--keep-norms",))]


class Network:
    """An exported network in ONNX Runtime."""

    def __init__(self, checkpoint, *options):
        file = FOLDER / "network.onnx"
        command = [RESIDUA, "export", str(checkpoint), "--to", "onnx", "--out", str(file), "--json", *options]
        report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert report["bytes"] == file.stat().st_size
        model = onnx.load(file)
        onnx.checker.check_model(model, full_check=True)
        assert model.producer_name == "residua" and model.ir_version == 8 and model.doc_string
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
        self.is_nhwc = "nhwc" in options
        self.megabytes = report["bytes"] / 1e6
        self.metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        for port, found in (("input", self.session.get_inputs()), ("output", self.session.get_outputs())):
            [found] = found
            assert (found.name, found.shape) == (report[port]["name"], report[port]["shape"]), (port, found)
        classes = len(self.metadata["residua.classes"])
        assert report["output"]["shape"] == ["batch", classes] and report["input"]["name"] == "images"

    def run(self, images):
        """Scores of images [batch, channels, height, width]."""
        given = numpy.ascontiguousarray(images.transpose(0, 2, 3, 1)) if self.is_nhwc else images
        return self.session.run(None, {"images": given})[0]

    def normalise(self, pixels):
        """What --with-normalisation puts inside, from the metadata."""
        how = self.metadata["residua.normalisation"]
        units = pixels.astype(numpy.float32) / numpy.float32(255)
        if how["kind"] == "pixel-mean":
            mean = numpy.array(how["mean"], numpy.float32).reshape(*self.metadata["residua.size"], 3)
            return units - mean.transpose(2, 0, 1)
        mean, deviation = (numpy.array(how[name], numpy.float32).reshape(3, 1, 1) for name in ("mean", "deviation"))
        return (units - mean) / deviation


class Worst:
    """The worst relative difference of some results."""

    def __init__(self):
        self.difference, self.results, self.sizes = 0.0, 0, set()

    def note(self, what, network, found, expected):
        assert found.shape == expected.shape, (what, found.shape, expected.shape)
        difference = numpy.abs(found - expected).max() / numpy.abs(expected).max()
        assert difference < TOLERANCE, f"{what}: relative difference {difference:.1e}"
        self.difference, self.results = max(self.difference, difference), self.results + 1
        self.sizes.add(network.megabytes)

    def tell(self, what):
        print(f"{what}: {self.results} results of files of {min(self.sizes):.2f} to {max(self.sizes):.2f} MB, "
              f"worst relative difference {self.difference:.1e}", flush=True)


def fixtures():
    """Every fixture network in every form, against PyTorch's logits; of raw pixels against those of normalised ones."""
    paths = sorted((FOLDER / "fixtures").glob("*.safetensors"))
    assert len(paths) > 50, f"only {len(paths)} fixture networks"
    worst, worst_raw = Worst(), Worst()
    for path in paths:
        results = safetensors.numpy.load_file(path.with_suffix(".results"))
        images, logits = results["images"], results["logits"]
        for options in NORMALISED:
            network = Network(path, *options)
            for batch in (len(images), 1):
                worst.note(f"{path.stem} {options}", network, network.run(images[:batch]), logits[:batch])
        pixels = numpy.random.default_rng(1).integers(0, 256, images.shape, numpy.uint8)
        plain = Network(path)
        expected = plain.run(plain.normalise(pixels))
        for options in RAW:
            network = Network(path, *options)
            worst_raw.note(f"{path.stem} {options}", network, network.run(pixels), expected)
    worst.tell(f"{len(paths)} fixture networks, PyTorch's logits")
    worst_raw.tell("the same on raw pixels")


def inception():
    """torchvision's inception_v3 with weights by a formula, with and without its auxiliary classifier, against PyTorch's logits in f64."""
    import safetensors.torch
    import torch
    from foreign_networks import build, with_generated_weights

    worst, file = Worst(), FOLDER / "inception.safetensors"
    pixels = numpy.random.default_rng(3).integers(0, 256, (2, 3, 299, 299), numpy.uint8)
    for model, forms in (("inception_v3", [*NORMALISED, *RAW]), ("inception_v3-without-auxiliary", NORMALISED[:1])):
        original = with_generated_weights(build("torchvision", model, 13), 5)
        safetensors.torch.save_file(original.state_dict(), file)
        with torch.no_grad():
            expected = original.double()(torch.from_numpy(pixels / 255 * 2 - 1)).numpy()
        for options in forms:
            network = Network(file, *options)
            images = pixels if "--with-normalisation" in options else network.normalise(pixels)
            for batch in (2, 1):
                worst.note(f"{model} {options}", network, network.run(images[:batch]), expected[:batch])
    worst.tell("torchvision's inception_v3, PyTorch's logits")


def trained():
    """Networks as `residua train` leaves them, on a picture of their size, against `residua predict`."""
    picture = FOLDER / "picture.png"
    for model, size, options in (("preresnet20", 32, ("--normalisation", "channel")), ("resnet29", 32, ("--normalisation", "pixel-mean")),
                                 ("preresnet18", 64, ("--data", pictures(), "--size", "64"))):
        worst, run = Worst(), FOLDER / model
        command = [RESIDUA, "train", "--model", model, "--iterations", "50", "--lr", "0.01", "--batch", "8", "--out", str(run), *options]
        subprocess.run(command, check=True, capture_output=True)
        pixels = numpy.random.default_rng(2).integers(0, 256, (size, size, 3), numpy.uint8)
        PIL.Image.fromarray(pixels).save(picture)
        command = [RESIDUA, "predict", "--checkpoint", str(run), str(picture), "--json", "--top", "1000"]
        [line] = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        predicted = {one["class"]: one["probability"] for one in json.loads(line)["predictions"]}
        assert max(predicted.values()) < 0.999, f"{model} is so sure that nothing can differ"
        for form in (("--input", "nhwc"), ("--input", "nchw", "--keep-norms")):
            network = Network(run, "--with-normalisation", "--probabilities", *form)
            expected = numpy.array([[predicted[name] for name in network.metadata["residua.classes"]]])
            worst.note(f"{model} {form}", network, network.run(pixels.transpose(2, 0, 1)[None]), expected)
        worst.tell(f"{model} on a picture, the probabilities of `residua predict`")


def pictures():
    """A folder of few pictures, of three classes."""
    folder = FOLDER / "pictures"
    for split in ("train", "val"):
        for number, name in enumerate(("cat", "dog", "frog")):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for index in range(2):
                pixels = numpy.random.default_rng([number, index]).integers(0, 256, (64, 64, 3), numpy.uint8)
                PIL.Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return f"folder:{folder}"


for what in sys.argv[3:]:
    {"fixtures": fixtures, "inception": inception, "trained": trained}[what]()
