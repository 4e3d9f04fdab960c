"""python train.py [configs/gan/scenes.yaml] [key=value ...]"""

from cgan.cli import run
from cgan.cli.train import main

if __name__ == "__main__":
    run(main)
