"""What the scripts beside this one share: named checks, run by many clients at once, each with a marker of its own.

A script is called with a DSN and the number of clients. It prints one line per failure and ends with 1 if there was one.
"""

import sys
import threading
import traceback

CHECKS = []


def check(function):
    """Registers a check: it gets a DSN and a marker that no other client has."""
    CHECKS.append(function)
    return function


def main():
    dsn, clients = sys.argv[1], int(sys.argv[2])
    failures = []

    def client(number):
        for function in CHECKS:
            try:
                function(dsn, f"c{number}")
            except Exception as problem:  # every failure is reported, and the next check tried
                failures.append(f"{function.__name__}, client {number}: {type(problem).__name__}: {problem}".strip())
                traceback.print_exc()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        print("FAILED", failure.replace("\n", " | "))
    print(f"{len(CHECKS)} checks by {clients} clients, {len(failures)} failures")
    sys.exit(1 if failures else 0)
