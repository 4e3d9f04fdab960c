"""train.py that stops itself by SIGSTOP in the midst of its steps, where a test kills it, never too early or too late.

    STOP_AFTER=IMAGES STOP_DELAY=SECONDS python tests/helpers/stopped.py [what train.py takes]

The delay begins with the first step of a GAN that has seen so many images. Of several processes the first one stops.
"""

import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAUSE = 0.05  # seconds that each step takes longer from then on, so that the training does not end first


def stop_in_training(images: int, delay: float) -> None:
    from cgan.training.gan import TextToImageGAN

    original, timers = TextToImageGAN.training_step, []

    def training_step(gan, batch, batch_idx):
        if gan.global_rank == 0 and gan.images_seen >= images:
            if not timers:
                timers.append(threading.Timer(delay, os.kill, (os.getpid(), signal.SIGSTOP)))
                timers[0].start()
            time.sleep(PAUSE)
        original(gan, batch, batch_idx)

    TextToImageGAN.training_step = training_step


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    stop_in_training(int(os.environ["STOP_AFTER"]), float(os.environ["STOP_DELAY"]))
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
