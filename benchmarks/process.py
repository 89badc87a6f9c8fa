"Measuring in a process of its own: its memory, and how it is started."

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from unremix.arguments import require
from unremix.machine import peak_of_process
from unremix.safe_files import write_json

STATUS = Path('/proc/self/status')  # of Linux
ROOT = Path(__file__).resolve().parents[1]


def peak_memory() -> int:  # bytes
    """High-water mark of this process since `reset_peak`.

    Or since its start where that cannot be reset.
    """
    if STATUS.exists():
        behind = STATUS.read_text(encoding='utf-8').split('VmHWM:')[1]
        return int(behind.split()[0]) * 1024
    peak = peak_of_process()
    asked = "one that tells a process's peak memory (Linux, macOS)"
    require(peak is not None, 'the system', asked, sys.platform)
    return peak  # type: ignore[return-value]


def reset_peak() -> int:  # bytes in use now
    try:
        Path('/proc/self/clear_refs').write_text('5', encoding='utf-8')
    except OSError:
        pass  # the mark stays where it is
    return peak_memory()


def fresh(
    code: str,  # prints json as its last line
    name: str,  # of what it measures
    *args: str,
    threads: int = 0,  # 0: all
) -> Any:  # what the code prints
    """Run code in a process of its own.

    It finds the name and the arguments in `sys.argv`.
    """
    env = dict(os.environ)
    if threads:
        env['OMP_NUM_THREADS'] = str(threads)
    # the child finds this folder wherever the parent was started
    env['PYTHONPATH'] = os.pathsep.join([str(ROOT), env.get('PYTHONPATH', '')])
    command = [sys.executable, '-c', code, name, *args]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        reason = last_words(done.returncode, done.stderr)
        raise OSError(f'the measurement of {name} failed: {reason}')
    return json.loads(done.stdout.splitlines()[-1])


def last_words(status: int, stderr: str) -> str:
    "What a process said last, or how it ended."
    if status < 0:
        return f'killed by signal {-status}'
    return (stderr.strip().splitlines() or [f'status {status}'])[-1]


def check_out(out: Path) -> None:
    "Make the folder of a result; `ValueError` where the file could not be written."
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fits = os.access(out.parent, os.W_OK) and not out.is_dir()
    except OSError:
        fits = False
    require(fits, 'out', 'a file that can be written', str(out))


def write_result(out: Path, result: dict[str, Any]) -> None:
    write_json(out, result)
