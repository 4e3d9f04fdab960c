"""python sample.py "a dog on grass" """

from cgan.cli import run
from cgan.cli.sample import main

if __name__ == "__main__":
    run(main)
