"""Runs a program in a terminal, presses Ctrl-C when the program has printed READY, and checks the end of the program.

    ctrl_c.py READY EXPECTED PROGRAM [ARGUMENT…]

EXPECTED is a regular expression for the output after Ctrl-C. The program must exit with status 0.
"""

import os
import pty
import re
import signal
import sys

# wine may start slowly on a busy machine.
LIMIT = 120

ready, expected = (argument.encode() for argument in sys.argv[1:3])
output = b""


def fail(reason):
    sys.exit(f"Ctrl-C: {reason}, output: {output}")


signal.signal(signal.SIGALRM, lambda *_: fail(f"no end within {LIMIT} s"))
signal.alarm(LIMIT)
process, terminal = pty.fork()
if process == 0:
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[3], sys.argv[3:])

is_pressed = False
while True:
    try:
        data = os.read(terminal, 4096)
    except OSError:  # Linux's end of a terminal.
        break
    if not data:
        break
    output += data
    if not is_pressed and ready in output:
        is_pressed = True
        os.write(terminal, b"\x03")

status = os.waitpid(process, 0)[1]
if status != 0:
    fail(f"wait status {status}")
if not re.search(expected, output.partition(ready)[2], re.DOTALL):
    fail(f"{expected} is missing")
