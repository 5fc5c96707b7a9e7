"""What the training of a bundle will take of a machine: time, memory, disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monai.bundle import ConfigParser

from seqnorm_monai.preflight.disk import cache_bytes, free_bytes, item_bytes, megabytes, training_bytes
from seqnorm_monai.preflight.findings import Finding
from seqnorm_monai.preflight.machine import Machine
from seqnorm_monai.preflight.steps import StepTimes

# above this share of the memory other programs, workers and the system itself get into trouble
_MOST = 0.8


@dataclass(frozen=True)
class Resources:
    """Seconds of an epoch and of the whole training, and bytes; `reading` are the seconds to read all images once."""

    steps: int
    epochs: int
    epoch_seconds: float
    reading: float
    training_seconds: float
    step_memory: int
    cached: int
    disk: Mapping[str, int]

    def lines(self) -> list[str]:
        """What a user wants to know of it."""
        disk = ", ".join(f"{megabytes(count)} in {folder}" for folder, count in self.disk.items() if count)
        return [
            f"time: {duration(self.epoch_seconds)} an epoch of {self.steps} steps, from three real ones; "
            f"{duration(self.training_seconds)} for {self.epochs} epochs, of that {duration(self.reading)} to read all "
            "images",
            f"memory: {megabytes(self.step_memory)} at most in a step, {megabytes(self.cached)} of decoded images",
            f"disk: {disk}",
        ]


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def resources(
    parser: ConfigParser, items: Mapping[str, list[dict[str, Any]]], seconds_per_image: float, times: StepTimes
) -> Resources:
    """Of the training that the configuration describes, with all images of the datalist."""
    get = parser.get_parsed_content
    num_train, num_val = len(items.get("training", ())), len(items.get("validation", ()))
    batch, epochs = int(get("batch_size")), int(get("max_epochs"))
    steps = -(-num_train // batch)
    validations = -(-num_val // batch) / int(get("val_interval"))
    reading = seconds_per_image * (num_train + num_val)
    rate = float(get("cache_rate"))
    # what is not kept is read in every epoch, by as many workers as there are
    again = 0.0 if get("cache_dir") else (1 - rate) * reading / max(1, int(get("num_workers")))
    epoch = steps * times.training + validations * times.validation + again
    checkpoint, model = training_bytes(get("network_def"))
    disk = {str(get("output_dir")): checkpoint, str(get("ckpt_dir")): model}
    if get("cache_dir"):
        disk[str(get("cache_dir"))] = cache_bytes(get("description"), num_train + num_val, get("cache_dir"))
    cached = int(rate * (num_train + num_val)) * item_bytes(get("description"))
    return Resources(steps, epochs, epoch, reading, epochs * epoch + reading, times.memory, cached, disk)


def resource_findings(needs: Resources, machine: Machine, times: StepTimes) -> list[Finding]:
    """What does not fit the machine."""
    found = []
    if times.on_gpu and times.memory > _MOST * machine.gpu_memory:
        text = f"a step needs {megabytes(times.memory)} of the GPU's {megabytes(machine.gpu_memory)}"
        found.append(Finding(False, text, "a smaller batch_size leaves room"))
    held = needs.cached + (0 if times.on_gpu else times.memory)
    if machine.memory and held > _MOST * machine.memory:
        share = max(0.0, (_MOST * machine.memory - held + needs.cached) / max(1, needs.cached))
        text = f"decoded images and a step need {megabytes(held)} of the memory of {megabytes(machine.memory)}"
        found.append(Finding(True, text, f"give --cache_rate {share:.2f}, or --cache_dir FOLDER with --cache_rate 0"))
    for folder, count in needs.disk.items():
        if count > (free := free_bytes(folder)):
            text = f"{folder}: the training needs {megabytes(count)} there, and {megabytes(free)} are left"
            found.append(Finding(True, text, "free space, or give a folder on another disk"))
    return found
