"""The gain of a reward model that scores while the language model draws tokens.

    OMP_NUM_THREADS=1 python -m benchmarks.meanwhile --rounds 5

solves problems of `minimath-500` with the bootstrap filter, eight at a time, with so many tokens
drawn while steps are scored, in turn, and prints in Markdown how many times as fast that is by the
clock on the wall. The reward model has a thread of its own: a second core must be free, and each
pass keep to one. The answers are the same; that is asserted.
"""

import argparse
from statistics import median

from benchmarks.embedded import questions_of
from benchmarks.engine.records import spread
from benchmarks.together import Bench, Measured, require_same_answers


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--particles", type=int, default=32)
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    parser.add_argument("--problems", type=int, default=16, help="of each level")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    bench = Bench()
    print("| level | tokens meanwhile | throughput | time of the processors | positions |")
    print("| --- | --- | --- | --- | --- |")
    for level in arguments.levels:
        questions = questions_of(level, arguments.problems)
        rounds = [
            {
                tokens: bench.measure(
                    questions, arguments.particles, arguments.in_flight, tokens_meanwhile=tokens
                )
                for tokens in (0, *arguments.tokens)
            }
            for _ in range(arguments.rounds)
        ]
        for tokens in arguments.tokens:
            pairs = [(each[0], each[tokens]) for each in rounds]
            print(f"| {level} | {tokens} | {cells(pairs)} |", flush=True)


def cells(pairs: list[tuple[Measured, Measured]]) -> str:
    """Return the cells for a number of tokens: pairs without and with them, of each round."""
    for before, now in pairs:
        require_same_answers(before, now)
    gains = [before.wall_seconds / now.wall_seconds for before, now in pairs]
    work = median(now.seconds / before.seconds for before, now in pairs)
    before, now = pairs[0]
    return f"{spread(gains, '.2f')} | {work:.2f} | {now.positions / before.positions:.3f}"


if __name__ == "__main__":
    main()
