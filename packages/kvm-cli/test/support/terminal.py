"""Runs a program on a pseudo-terminal of its own.

Standard input carries commands, a line of JSON each: {"write": base64}, {"resize": [rows, columns]}, {"termios": true},
{"signal": number} (to the terminal's process group). Standard output carries events likewise: {"out": base64},
{"termios": [...]}, {"exit": code, "signal": number}.
"""
import base64, fcntl, json, os, pty, select, signal, struct, sys, termios


def say(event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def resize(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def state(fd):
    flags = termios.tcgetattr(fd)
    return flags[:6] + [[c if isinstance(c, int) else c[0] for c in flags[6]]]


rows, columns = int(sys.argv[1]), int(sys.argv[2])
controller, terminal = pty.openpty()
resize(terminal, rows, columns)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(terminal, fd)
    os.closerange(3, 64)
    os.execvp(sys.argv[3], sys.argv[3:])
pending = b""
commands = True
while True:
    ready, _, _ = select.select([controller] + ([0] if commands else []), [], [], 0.05)
    if controller in ready:
        say({"out": base64.b64encode(os.read(controller, 65536)).decode()})
    if 0 in ready:
        chunk = os.read(0, 65536)
        if not chunk:
            os.killpg(pid, signal.SIGKILL)
            commands = False
        pending += chunk
        while b"\n" in pending:
            line, pending = pending.split(b"\n", 1)
            command = json.loads(line)
            if "write" in command:
                os.write(controller, base64.b64decode(command["write"]))
            elif "resize" in command:
                resize(terminal, *command["resize"])
            elif "termios" in command:
                say({"termios": state(terminal)})
            elif "signal" in command:
                try:
                    os.killpg(pid, command["signal"])
                except ProcessLookupError:
                    pass
    elif not ready:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            say({"termios": state(terminal)})
            signaled = os.WIFSIGNALED(status)
            say({"exit": None if signaled else os.WEXITSTATUS(status), "signal": os.WTERMSIG(status) if signaled else 0})
            sys.exit(0)
