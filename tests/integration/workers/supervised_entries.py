"""What the children of the supervisor's tests do; imported by the nursery, not by the tests."""

import os
import subprocess
import sys
import time


def quick(assignment, parent):
    parent.progress(1.0, "done")
    return {"pid": os.getpid(), "group": os.getpgid(0), "answer": assignment["answer"]}


def steps(assignment, parent):
    """Work in steps until told to stop, noting every step in a file."""
    from cuvee.records import EvalLoss, LossPoint

    for step in range(assignment["steps"]):
        if parent.stop.is_set():
            return {"stopped": True}
        time.sleep(0.05)
        with open(assignment["trace"], "a") as trace:
            trace.write(f"{os.getpid()} {step}\n")
        parent.progress(step / assignment["steps"])
        loss = EvalLoss(nats=1.0, nats_se=0.1, tokens=10, bytes=40)
        parent.point(LossPoint(step=step, tokens=step, losses={"web": loss}))
    return {"steps": assignment["steps"]}


def deaf(assignment, parent):
    """Hold on for ever, with a descendant, whatever is asked."""
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(assignment["trace"], "a") as trace:
        trace.write(f"{os.getpid()} {sleeper.pid}\n")
    while True:
        time.sleep(0.05)
        if assignment.get("talks"):
            parent.progress(0.5)


def silent(assignment, parent):
    time.sleep(600)


def bad_input(assignment, parent):
    from cuvee.errors import EpochCapError

    raise EpochCapError("web needs 9 epochs, the cap is 4", domain="web")


def broken(assignment, parent):
    raise OSError("no space left")


def shot(assignment, parent):
    print("about to go", flush=True)
    os.kill(os.getpid(), 9)
