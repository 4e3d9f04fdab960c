"""A port that stays free until a test's server takes it."""

import random
import socket

LOWEST, HIGHEST = 20_000, 32_000  # systems hand out higher ones to any process that connects or listens at port 0


def free_port() -> int:
    chance = random.SystemRandom()
    while True:
        port = chance.randint(LOWEST, HIGHEST)
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) != 0:
                return port
