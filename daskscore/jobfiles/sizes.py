"""`mini_batch_size` as the reference writes it: a number of files, or a size in kb, mb or gb."""

from __future__ import annotations

import re

RULE = r"^\d+([kKmMgG][bB])*$"


def mini_batch_size(value: object) -> int | str:
    """A number where it is one, else the size as a text without blanks; raises ValueError in the reference's words."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("Parameter mini_batch_size must be of type int or str.")
    text = str(value).replace(" ", "") if isinstance(value, str) else str(value)
    if not re.fullmatch(RULE, text):
        raise ValueError(f"Parameter mini_batch_size must follow regex rule {RULE}.")
    if not re.fullmatch(r"\d+[a-zA-Z]{0,2}", text):
        # The rule lets 10KBKB pass, and the reference then fails over its digits.
        raise ValueError("mini_batch_size unit must be kb, mb or gb")
    return int(text) if text.isdigit() else text
