"""What scripts/check-weights runs: every architecture, saved in each kind of file, against residua predict; exported again by residua
and loaded by the package.

Probabilities of all classes are compared as logarithms less their mean: logits up to a constant.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from foreign_networks import build, with_generated_weights

RESIDUA, WORK, NAMED = sys.argv[1], pathlib.Path(sys.argv[2]), tuple(sys.argv[3:])
TOLERANCE = 1e-4
CLASSES = 13

NETWORKS = [
    *(("torchvision", f"resnet{depth}", CLASSES) for depth in (18, 34, 50, 101, 152)),
    ("torchvision", "inception_v3", CLASSES),
    ("torchvision", "inception_v3-without-auxiliary", CLASSES),
    *(("timm", f"resnet{depth}", CLASSES) for depth in (18, 34, 50, 101, 152)),
    *(("timm-v2", f"resnetv2_{depth}", CLASSES) for depth in (18, 34, 50, 101)),
    *(("pytorch-cifar-models", f"cifar10_resnet{depth}", 10) for depth in (20, 32, 44, 56)),
    ("pytorch-cifar-models", "cifar100_resnet20", 100),
    *(("akamaster", f"resnet{depth}", 10) for depth in (20, 32, 44, 56, 110)),
]
NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)),
}


def custom(family, model, classes):
    if family == "timm-v2" or model.startswith("inception"):
        return "half"
    if family == "pytorch-cifar-models":
        return "cifar10" if classes == 10 else "cifar100"
    return "imagenet"


def sides_of(family, model):
    """Heights and widths of the pictures, the first with each kind of file."""
    if model.startswith("inception"):
        return 299, 224
    return (32,) if "cifar" in model or family == "akamaster" else (224, 256)


def pictures(side, count):
    """Smooth pictures with some noise, as PNG files, and their pixels."""
    random = np.random.default_rng(side)
    paths, pixels = [], []
    for number in range(count):
        waves = np.add.outer(np.sin(np.arange(side) / (3 + number)), np.cos(np.arange(side) / 5))[..., None] * [60, -40, 30]
        picture = np.clip(128 + waves + random.normal(0, 25, (side, side, 3)), 0, 255).astype(np.uint8)
        paths.append(WORK / f"{side}-{number}.png")
        Image.fromarray(picture).save(paths[-1])
        pixels.append(picture)
    return paths, np.stack(pixels)


def saved(network, name):
    """The kinds of files that people have such weights in."""
    state = network.state_dict()
    zipped, stream, tensors = (WORK / f"{name}.{end}" for end in ("pth", "th", "safetensors"))
    torch.save({"epoch": 1, "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, zipped)
    torch.save(state, stream, _use_new_zipfile_serialization=False)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tensors)
    return zipped, stream, tensors


def with_small_logits(network, side):
    """The classifier scaled so that no probability is too small for f32."""
    with torch.no_grad():
        largest = network(torch.randn(2, 3, side, side)).abs().max()
        for name, parameter in network.named_parameters():
            if name.split(".")[-2] in ("fc", "linear"):
                parameter.mul_(8 / largest)
    return network


def predicted(weights, paths, side, classes):
    """Logarithms of the probabilities that residua gives, `[pictures, classes]`."""
    names = WORK / f"names-{classes}.txt"
    names.write_text("\n".join(map(str, range(classes))))
    command = [RESIDUA, "predict", *paths, "--checkpoint", weights, "--classes", names, "--size", side, "--scale", side,
               "--top", classes, "--json"]
    lines = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    result = np.zeros((len(paths), classes))
    for row, line in zip(result, lines, strict=True):
        for prediction in json.loads(line)["predictions"]:
            row[int(prediction["class"])] = np.log(prediction["probability"])
    return result


def check_there_and_back(file, network, family, model, classes):
    """What residua exports again is what it was given, and the network takes it."""
    out = WORK / "exported.safetensors"
    to = "timm" if family == "timm-v2" else family
    subprocess.run(list(map(str, [RESIDUA, "export", file, "--to", to, "--out", out])), check=True, stdout=subprocess.DEVNULL)
    exported = load_file(out)
    fresh = build(family, model, classes)
    fresh.load_state_dict(exported, strict=True)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            assert torch.equal(exported[name], tensor), f"{family} {model}: {name} is another"


def centred(logits):
    return logits - logits.mean(1, keepdims=True)


def main():
    networks = [network for network in NETWORKS if not NAMED or network[1].startswith(NAMED)]
    assert networks, f"there is no network {' or '.join(NAMED)}"
    worst = 0
    for number, (family, model, classes) in enumerate(networks):
        sides = sides_of(family, model)
        network = with_small_logits(with_generated_weights(build(family, model, classes), number), sides[0])
        files = saved(network, f"{family}-{model}")
        check_there_and_back(files[0], network, family, model, classes)
        network = network.double()
        mean, deviation = (np.array(numbers) for numbers in NORMALISATIONS[custom(family, model, classes)])
        for side, file in [(side, file) for side in sides for file in files]:
            if side != sides[0] and file.suffix != ".pth":
                continue
            paths, pixels = pictures(side, 3)
            images = torch.from_numpy((pixels / 255 - mean) / deviation).permute(0, 3, 1, 2)
            with torch.no_grad():
                logits = network(images).numpy()
            for count in (1, 3):
                found = predicted(file, paths[:count], side, classes)
                expected = centred(logits[:count])
                error = np.abs(centred(found) - expected).max() / np.abs(expected).max()
                worst = max(worst, error)
                assert error < TOLERANCE, f"{family} {model} {file.suffix} at {side}: off by {error:.1e}"
        for file in files:
            file.unlink()
        print(f"{family} {model}: worst so far {worst:.1e}", flush=True)
    print(f"{len(networks)} networks, logits within {worst:.1e} of PyTorch's in f64")


if __name__ == "__main__":
    main()
