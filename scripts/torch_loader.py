#!/usr/bin/env python3
"""How fast torchvision's DataLoader makes training images of a folder (pip install torch torchvision); beside it stands
`residua bench --load folder:DIR`. One line of JSON.

    torch_loader.py DIR [--workers N] [--batch N] [--batches N] [--size N] [--augment scale-aspect|none] [--colour]
"""

import argparse
import json
import time

import torch
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--augment", choices=["scale-aspect", "none"], default="scale-aspect")
    parser.add_argument("--colour", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size = arguments.size
    steps = [T.RandomResizedCrop(size), T.RandomHorizontalFlip()]
    if arguments.augment == "none":
        steps = [T.Resize(size * 8 // 7), T.CenterCrop(size)]
    if arguments.colour:
        steps.append(T.ColorJitter(0.4, 0.4, 0.4))
    steps += [T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    images = ImageFolder(arguments.folder + "/train", T.Compose(steps))
    loader = DataLoader(images, arguments.batch, shuffle=True, num_workers=arguments.workers, drop_last=True)

    def endless():
        while True:
            yield from loader

    batches = endless()
    for _ in range(3 * arguments.workers):
        next(batches)
    begun = time.perf_counter()
    for _ in range(arguments.batches):
        next(batches)
    speed = arguments.batches * arguments.batch / (time.perf_counter() - begun)
    print(json.dumps({"engine": f"torchvision {__import__('torchvision').__version__}", "workers": arguments.workers,
                      "augmentation": arguments.augment, "varies_colour": arguments.colour, "images_per_second": speed}))


main()
