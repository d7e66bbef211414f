"""The Python part of check-onnx: exports networks and runs them in ONNX Runtime.

    check_onnx.py RESIDUA FOLDER    FOLDER/fixtures holds NAME.safetensors and, of the same network, NAME.results
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
    """The worst relative difference, and how many were seen."""

    def __init__(self):
        self.difference, self.networks, self.sizes = 0.0, 0, []

    def note(self, what, network, found, expected):
        assert found.shape == expected.shape, (what, found.shape, expected.shape)
        difference = numpy.abs(found - expected).max() / numpy.abs(expected).max()
        assert difference < TOLERANCE, f"{what}: relative difference {difference:.1e}"
        self.difference, self.networks = max(self.difference, difference), self.networks + 1
        self.sizes.append(network.megabytes)

    def tell(self, what):
        print(f"{what}: {self.networks} files of {min(self.sizes):.2f} to {max(self.sizes):.1f} MB, "
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


def trained():
    """Networks as `residua train` leaves them, on a picture, against `residua predict`."""
    for model, size, normalisation in (("preresnet110", 32, "channel"), ("resnet164", 32, "pixel-mean"),
                                       ("preresnet50", 224, "channel"), ("resnet18", 224, "channel")):
        worst, run = Worst(), FOLDER / model
        command = [RESIDUA, "train", "--model", model, "--iterations", "1", "--warmup", "none", "--batch", "2", "--out", str(run),
                   "--normalisation", normalisation, *(("--data", pictures(), "--size", str(size)) if size > 32 else ())]
        subprocess.run(command, check=True, capture_output=True)
        picture = FOLDER / "picture.png"
        pixels = numpy.random.default_rng(2).integers(0, 256, (size, size, 3), numpy.uint8)
        if size > 32:
            # As large as such pictures are scaled to, so that the crop is of the picture itself.
            side = size * 8 // 7
            whole = numpy.random.default_rng(3).integers(0, 256, (side, side, 3), numpy.uint8)
            begin = (side - size) // 2
            whole[begin:begin + size, begin:begin + size] = pixels
            PIL.Image.fromarray(whole).save(picture)
        else:
            PIL.Image.fromarray(pixels).save(picture)
        command = [RESIDUA, "predict", "--checkpoint", str(run), str(picture), "--json", "--top", "1000"]
        [line] = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        predicted = {one["class"]: one["probability"] for one in json.loads(line)["predictions"]}
        for options in (("--input", "nhwc"), ("--input", "nchw", "--keep-norms")):
            network = Network(run, "--with-normalisation", "--probabilities", *options)
            expected = numpy.array([[predicted[name] for name in network.metadata["residua.classes"]]])
            found = network.run(pixels.transpose(2, 0, 1)[None])
            worst.note(f"{model} {options}", network, found, expected)
        worst.tell(f"{model} on a picture of {size}x{size}, the probabilities of `residua predict`")


def pictures():
    """A folder of few pictures, of three classes."""
    folder = FOLDER / "pictures"
    for split in ("train", "val"):
        for number, name in enumerate(("cat", "dog", "frog")):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for index in range(2):
                pixels = numpy.random.default_rng([number, index]).integers(0, 256, (256, 256, 3), numpy.uint8)
                PIL.Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return f"folder:{folder}"


fixtures()
trained()
