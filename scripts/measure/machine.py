"""Programs that are run and timed, and what a process costs."""

import os
import pathlib
import resource
import subprocess
import sys
import time

QUIET = 0.15  # busy share of all cores that still counts as quiet


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def run(*words, env=None, limit=300, stdin=None):
    """Runs a program to its end; its output, or an exception with all that it said."""
    words = [str(word) for word in words]
    done = subprocess.run(words, env=env, input=stdin, stdin=None if stdin else subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


def timed(*words, **options):
    began = time.monotonic()
    run(*words, **options)
    return time.monotonic() - began


def core_seconds(process):
    """Of a process in user and kernel mode since its start, without what its children used; none for no process."""
    if not process:
        return 0
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def core_seconds_of_ended():
    """Of all programs that were run to their ends, with those that they ran to theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Quiet:
    """Waits for a quiet machine before each measurement, and remembers how quiet it was."""

    def __init__(self, patience):
        self.patience = patience
        self.worst = 0.0

    def wait(self):
        until = time.monotonic() + self.patience
        busy = busy_share(0.5)
        while busy > QUIET and time.monotonic() < until:
            busy = busy_share(1)
        self.worst = max(self.worst, busy)


def busy_share(seconds):
    def sample():
        fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    total, idle = sample()
    time.sleep(seconds)
    later_total, later_idle = sample()
    return 1 - (later_idle - idle) / max(1, later_total - total)


class Daemon:
    """A buildfleet daemon of the bench's own."""

    def __init__(self, binary, env, log):
        self.binary, self.env, self.log = binary, env, log
        with log.open("w") as out:
            self.process = subprocess.Popen([binary, "daemon"], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def __call__(self, *words, limit=300):
        return run(self.binary, *words, env=self.env, limit=limit)

    def resident_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    def last_words(self):
        return "\n".join(self.log.read_text().splitlines()[-30:])

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
