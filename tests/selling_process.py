"""A process that sells, and says on stdout what was acknowledged to it: to be killed at any moment.

python selling_process.py HOW_MANY     with DATABASE_URL in the environment
"""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from support import PROGRAM, by, open_ledger, refund, sale

from ledger.domain.errors import Unavailable
from ledger.domain.event import Answer, Command
from ledger.store.database import Database

THREADS = 4
_stdout = threading.Lock()


def commands(number: int) -> list[Command]:
    """The n-th customer's commands: every third refunds half, and every sixth before its sale is known."""
    order_id, amount = f"o{number}", 1000 + number
    bought, returned = sale(order_id, amount), refund(f"r{number}", order_id, amount // 2)
    if number % 6 == 0:
        return [returned, bought]
    return [bought, returned] if number % 3 == 0 else [bought]


def acknowledged(number: int, index: int, answer: Answer) -> str:
    """A line of the output: which command, and the position that its answer named."""
    return f"{number} {index} {answer.position}"


def main() -> None:
    """Sell from the first to the last, in several threads; each line is written whole."""
    count = int(sys.argv[1])
    with open_ledger(Database(os.environ["DATABASE_URL"], None, None)) as ledger, ThreadPoolExecutor(THREADS) as pool:

        def sell(number: int) -> None:
            for index, command in enumerate(commands(number)):
                while True:
                    try:
                        answer = ledger.execute(PROGRAM, command, by("seller"))
                        break
                    except Unavailable:
                        time.sleep(0.02)
                with _stdout:
                    os.write(1, f"{acknowledged(number, index, answer)}\n".encode())

        list(pool.map(sell, range(count)))


if __name__ == "__main__":
    main()
