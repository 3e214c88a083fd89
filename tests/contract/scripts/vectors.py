"""Beside the scripts, as a package of their own would be."""


def embedded(text):
    return [len(text), text.count("e")]
