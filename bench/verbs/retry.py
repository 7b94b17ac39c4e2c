"""Runs the cells of a grid that failed, and no other. Words of a grid."""


def main(words: list[str]) -> None:
    from bench.verbs import run

    run.main([*words, "hydra.sweeper.only=failed"])
