"""The child process with the user's script, and the guard that is its parent.

Started, never imported, by the rest of daskscore; uses the standard library and `core` alone (and pandas where the
script itself has loaded it), because it runs in the environment of the script.
"""
