#!/usr/bin/env python3
"""Training and inference throughput of the paper's networks in PyTorch, as one JSON line.

    torch_bench.py --model preresnet164 --batch 64 --steps 5 [--memory-format nchw|nhwc] [--compile]
                   [--ordering bn-after-add] [--shortcut scale:0.5,0.5] [--dimensions a|b]
                   [--mode train|infer] [--threads N] [--device cpu|cuda] [--precision f32|bf16] [--size N]

A step is forward, cross-entropy, backward and SGD (momentum 0.9, weight decay 1e-4) on random data already in memory: images of
32x32 and 10 classes, for ImageNet networks (18, 34, 50, 101, 152, 200 layers) of 224x224 and 1000 classes.
Figures: images_per_second of the median and of the best step (the first two, warm-up, are left out), and the
process's peak resident memory (on cuda: peak allocated device memory). Needs `pip install torch`.
"""
import argparse
import json
import pathlib
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "crates/residua/tests/fixtures"))
import torch_networks  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="preresnet110")
    parser.add_argument("--ordering", choices=torch_networks.ORDERINGS)
    parser.add_argument("--shortcut", default="identity", help="identity, scale:S,F, exclusive-gate:B, shortcut-gate:B, conv1x1, dropout:P")
    parser.add_argument("--dimensions", choices=("a", "b"), default="b")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--mode", choices=("train", "infer"), default="train")
    parser.add_argument("--memory-format", choices=("nchw", "nhwc"), default="nhwc")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="bf16: autocast")
    parser.add_argument("--size", type=int, help="height and width of images [32, for ImageNet networks 224]")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    memory_format = torch.channels_last if args.memory_format == "nhwc" else torch.contiguous_format
    kind, _, parameters = args.shortcut.partition(":")
    shortcut = (kind, *(float(value) for value in parameters.split(",") if value))
    model = torch_networks.build(args.model, args.ordering, shortcut, args.dimensions)
    model = model.to(args.device, memory_format=memory_format)
    size = args.size or (224 if isinstance(model, torch_networks.ImageNetResNet) else 32)
    images = torch.randn(args.batch, 3, size, size).to(args.device, memory_format=memory_format)
    labels = torch.randint(0, model.classifier.out_features, (args.batch,), device=args.device)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    model.train(args.mode == "train")
    forward = torch.compile(model) if args.compile else model
    autocast = torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16")

    def train_step():
        optimiser.zero_grad(set_to_none=True)
        with autocast:
            loss = F.cross_entropy(forward(images), labels)
        loss.backward()
        optimiser.step()

    @torch.no_grad()
    def infer_step():
        with autocast:
            forward(images)

    step = train_step if args.mode == "train" else infer_step
    times = []
    for _ in range(args.steps + 2):
        start = time.perf_counter()
        step()
        if args.device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    times = times[2:]
    peak = torch.cuda.max_memory_allocated() if args.device == "cuda" else \
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({
        "engine": f"torch {torch.__version__}", "model": args.model, "ordering": args.ordering, "shortcut": args.shortcut, "dimensions": args.dimensions, "mode": args.mode, "batch": args.batch,
        "memory_format": args.memory_format, "compiled": args.compile, "precision": args.precision, "size": size, "device": args.device,
        "threads": torch.get_num_threads(), "parameters": sum(p.numel() for p in model.parameters()),
        "images_per_second_median": args.batch / statistics.median(times), "images_per_second": args.batch / min(times),
        "peak_memory_bytes": peak}))


if __name__ == "__main__":
    main()
