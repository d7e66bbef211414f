#!/usr/bin/env python3
"""Inference throughput of the paper's CIFAR networks in ONNX Runtime and OpenVINO, one JSON line per engine and batch.

    inference_bench.py --model preresnet110 --batch 1 128 --threads 2

The network is built by torch_networks.py with random weights and random BN statistics, exported to ONNX, and run in f32, or by
OpenVINO alone: in bf16, which ONNX Runtime has not for x86 processors, and in int8, to which NNCF quantises it with 32 images.
Figures: images_per_second of the best and of the median call. Needs `pip install torch onnx onnxscript onnxruntime openvino`, for int8 nncf.
"""
import argparse
import json
import statistics
import pathlib
import sys
import tempfile
import time

import numpy as np
import onnxruntime
import openvino
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "crates/residua/tests/fixtures"))
import torch_networks  # noqa: E402


def throughput(call, batch):
    call()
    times = []
    until = time.perf_counter() + 3
    while len(times) < 5 or time.perf_counter() < until:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return {"images_per_second": batch / min(times), "images_per_second_median": batch / statistics.median(times)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="preresnet110")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 128])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["f32", "bf16", "int8"], default="f32")
    args = parser.parse_args()

    torch.manual_seed(0)
    model = torch_networks.build(args.model).eval()
    size = 224 if isinstance(model, torch_networks.ImageNetResNet) else 32
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        torch.onnx.export(model, (torch.randn(2, 3, size, size),), file.name, input_names=["x"], output_names=["y"],
                          dynamic_axes={"x": {0: "n"}, "y": {0: "n"}}, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        session = onnxruntime.InferenceSession(file.name, options, providers=["CPUExecutionProvider"])
        core = openvino.Core()
        # What int8 leaves in floating point is best in bf16 where the processor has it.
        hint = {"INFERENCE_PRECISION_HINT": args.precision} if args.precision != "int8" else {}
        core.set_property("CPU", {"INFERENCE_NUM_THREADS": str(args.threads), **hint})
        for batch in args.batch:
            images = np.random.randn(batch, 3, size, size).astype(np.float32)
            network = core.read_model(file.name)
            if args.precision == "int8":
                import nncf
                seen = [np.random.randn(1, 3, size, size).astype(np.float32) for _ in range(32)]
                network = nncf.quantize(network, nncf.Dataset(seen), subset_size=32)
            network.reshape({"x": [batch, 3, size, size]})
            request = core.compile_model(network, "CPU", {"PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
            engines = {f"openvino {openvino.__version__.split('-')[0]}": lambda: request.infer({"x": images})}
            if args.precision == "f32":
                engines[f"onnxruntime {onnxruntime.__version__}"] = lambda: session.run(None, {"x": images})
            for engine, call in engines.items():
                print(json.dumps({"engine": engine, "model": args.model, "mode": "infer", "batch": batch,
                                  "threads": args.threads, **throughput(call, batch)}), flush=True)


if __name__ == "__main__":
    main()
